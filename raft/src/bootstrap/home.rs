//! Verifying an identity on disk: whether this directory belongs here.

use std::collections::BTreeMap;
use std::time::Duration;

use limes_routing::NodeId;
use tokio::time::{Instant, sleep};

use super::error::StartError;
use super::pre_boot::PreBoot;
use super::staleness::{Testimony, Verdict, judge};
use crate::config::Config;
use crate::membership::survey::{Survey, survey, unlisted_peers};
use crate::network::{Clients, PeerInfo};
use crate::storage::identity::Identity;

/// Pause between two surveys; remote nodes give no notification.
const PAUSE: Duration = Duration::from_millis(150);
/// How long to wait for other members before this one goes on without their testimony.
const WAIT: Duration = Duration::from_secs(5);
/// How long to wait for the others once one member of the own cluster has answered.
const WAIT_FOR_REST: Duration = Duration::from_millis(1_500);

/// The result of the verification.
pub(super) enum Home {
    /// The directory may be used.
    Valid,
    /// The directory is an old copy; and why.
    Stale(String),
}

/// Refuses the directory of another cluster, of another member, or of a removed member, and detects an old
/// copy. A member that reaches no other one goes on, because it may be the first that is back.
///
/// A cluster counts as another one if most founders belong to it: a single founder that differs may itself
/// have the wrong directory. The configuration decides where a node belongs, not the directory, which knows
/// the addresses of its own cluster.
///
/// # Errors
/// [`StartError::WrongCluster`], [`StartError::WrongMember`] or [`StartError::Removed`].
pub(super) async fn verify(
    config: &Config,
    pre_boot: &PreBoot,
    identity: Identity,
    next_index: u64,
) -> Result<Home, StartError> {
    let clients = Clients::new(Some(identity.cluster), config.timing);
    let cache = pre_boot.member_cache();
    let unlisted = unlisted_peers(config, &cache);
    check_name(config, identity.node, cache.members.into_iter().map(|member| (member.node, member.name)))?;
    let others = config.initial.iter().chain(&unlisted).filter(|peer| peer.name != config.name).count();
    let mut until = Instant::now() + WAIT;
    let mut met = false;
    while others > 0 && Instant::now() < until {
        let me = Some(identity.node);
        let (listed, known) = futures::join!(
            survey(config, &clients, &config.initial, me),
            survey(config, &clients, &unlisted, me)
        );
        check_cluster(config, &identity, &listed)?;
        let answers = || listed.answers.iter().chain(&known.answers);
        let ours = || answers().filter(|(_, info)| info.cluster() == Some(identity.cluster));
        for (name, info) in ours() {
            let members = info.members.members.iter().map(|member| (member.node, member.name.clone()));
            check_name(config, identity.node, members)?;
            match judge(&identity, next_index, &testimony(config, identity.node, name, info)) {
                Verdict::Valid => {}
                Verdict::Stale(why) => return Ok(Home::Stale(why)),
                Verdict::Removed(why) => return Err(StartError::Removed(config.dir.clone(), why)),
            }
        }
        if answers().count() == others {
            break;
        }
        if ours().next().is_some() && !met {
            (met, until) = (true, until.min(Instant::now() + WAIT_FOR_REST));
        }
        sleep(PAUSE).await;
    }
    Ok(Home::Valid)
}

/// Refuses the directory of another cluster.
fn check_cluster(config: &Config, identity: &Identity, listed: &Survey) -> Result<(), StartError> {
    let mut clusters: BTreeMap<[u8; 16], Vec<&str>> = BTreeMap::new();
    for (name, info) in &listed.answers {
        if let Some(cluster) = info.cluster() {
            clusters.entry(cluster).or_default().push(name);
        }
    }
    if clusters.contains_key(&identity.cluster) {
        return Ok(());
    }
    match clusters.iter().find(|(_, names)| names.len() * 2 > config.initial.len()) {
        Some((cluster, names)) => Err(StartError::WrongCluster {
            dir: config.dir.clone(),
            ours: hex::encode(identity.cluster),
            theirs: hex::encode(cluster),
            names: names.join(" and "),
        }),
        None => Ok(()),
    }
}

/// Refuses the directory of another member of the same cluster. A member keeps its name and its number for
/// ever; two processes with one number would be taken for each other.
fn check_name(
    config: &Config,
    node: u64,
    mut members: impl Iterator<Item = (u64, String)>,
) -> Result<(), StartError> {
    match members.find(|(number, name)| *number == node && *name != config.name) {
        Some((_, owner)) => {
            let (dir, me) = (config.dir.clone(), config.name.clone());
            Err(StartError::WrongMember { dir, owner, me })
        }
        None => Ok(()),
    }
}

/// What an answer says about this member.
fn testimony(config: &Config, node: u64, from: &str, info: &PeerInfo) -> Testimony {
    let members = &info.members.members;
    let me = members.iter().find(|member| member.node == node);
    let namesakes = members.iter().filter(|member| member.name == config.name);
    Testimony {
        from: from.to_owned(),
        made: info.members.made,
        revision: info.members.revision,
        belongs: me.is_some(),
        boot: me.and_then(|member| member.boot),
        newest_number: namesakes.map(|member| NodeId(member.node)).max(),
        acknowledged: info.acknowledged,
    }
}
