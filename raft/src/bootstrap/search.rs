//! Searching for an identity: joining a cluster, or founding one.

use std::time::Duration;

use rand::RngCore;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::error::StartError;
use super::pre_boot::PreBoot;
use crate::config::Config;
use crate::membership::quorum_report::{VoterState, describe, voters};
use crate::membership::survey::{Survey, survey};
use crate::network::{Clients, PeerInfo, RpcError};
use crate::storage::identity::Identity;

/// Pause between two surveys; remote nodes give no notification.
pub(super) const PAUSE: Duration = Duration::from_millis(150);
/// The shortest interval between two log lines about what this node waits for.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(6);

/// Asks the other nodes until this one has an identity.
///
/// # Errors
/// The disk failed, or the configuration cannot work.
///
/// # Cancel safety
/// An identity that was taken stays on disk.
pub(super) async fn search(config: &Config, pre_boot: &PreBoot) -> Result<Identity, StartError> {
    let is_first = config.initial.first().is_some_and(|first| first.name == config.name);
    let clients = Clients::new(None, config.timing);
    let mut nonce = [0; 16];
    rand::rng().fill_bytes(&mut nonce);
    let (mut reported, mut refusal) = (Instant::now(), None);
    loop {
        if let Some(identity) = pre_boot.identity() {
            return Ok(identity);
        }
        let survey = survey(config, &clients, &config.initial, None).await;
        let cluster = made_cluster(&survey.answers)?;
        if let Some(cluster) = cluster {
            match join(config, pre_boot, cluster, nonce).await? {
                Joined::Identity(identity) => return Ok(identity),
                Joined::NoLeader => {}
                Joined::Refused(error) => refusal = Some(error),
            }
        } else if is_first
            && survey.silent.is_empty()
            && !pre_boot.has_lost_data()
            && let Some(cluster) = cluster_to_found(&survey.answers)
        {
            info!(founders = config.initial.len(), "founding a cluster");
            pre_boot.accept(cluster, 1)?;
            continue;
        }
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            if let Some(error) = refusal.take() {
                info!(%error, "the cluster has not admitted this node yet");
            }
            report(config, pre_boot, &survey, cluster);
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = pre_boot.identified() => {}
        }
    }
}

/// The id of the cluster to found: a new one if no node has any. If other founders have an id that was never
/// used, this founder assigned it and lost its disk before it could go on. `None`: no cluster may be founded.
fn cluster_to_found(answers: &[(String, PeerInfo)]) -> Option<[u8; 16]> {
    if answers.iter().any(|(_, info)| info.lost_data) {
        return None;
    }
    let mut assigned = answers.iter().filter_map(|(_, info)| Some((info.cluster()?, info.unused)));
    let Some((first, unused)) = assigned.next() else {
        let mut cluster = [0; 16];
        rand::rng().fill_bytes(&mut cluster);
        return Some(cluster);
    };
    let same = assigned.all(|(other, unused)| other == first && unused);
    (same && unused).then_some(first)
}

/// Logs what this node waits for.
fn report(config: &Config, pre_boot: &PreBoot, survey: &Survey, cluster: Option<&PeerInfo>) {
    let Survey { answers, silent } = survey;
    if let Some(cluster) = cluster {
        let is_without_data =
            |name: &str| name == config.name || answers.iter().any(|(n, info)| n == name && info.lost_data);
        let voters = voters(&cluster.members, answers, |member| {
            is_without_data(&member.name).then_some(VoterState::WithoutData)
        });
        if let Some(report) = describe(&voters) {
            error!("{report}");
        }
        return;
    }
    let lost =
        answers.iter().filter(|(_, info)| info.lost_data).count() + usize::from(pre_boot.has_lost_data());
    if lost > 0 && silent.is_empty() && answers.iter().all(|(_, info)| info.identity.is_none()) {
        error!(
            "no node of cluster.initial has its data any more; {lost} of them had damaged data, which is in \
             quarantine: put back the data directories of a majority; or, to start over without that data, move \
             away the data directories of all nodes"
        );
        return;
    }
    let founded: Vec<_> =
        answers.iter().filter(|(_, info)| info.identity.is_some()).map(|(name, _)| name).collect();
    warn!(?silent, ?founded, "waiting for the other nodes of cluster.initial");
}

/// The cluster that has been made already, as one of its members describes it: preferably one that knows the
/// leader. `None` if there is no such cluster.
///
/// # Errors
/// [`StartError::FounderOfOtherCluster`]: the nodes belong to two clusters.
fn made_cluster(answers: &[(String, PeerInfo)]) -> Result<Option<&PeerInfo>, StartError> {
    let mut made = answers.iter().filter(|(_, info)| info.members.made);
    let Some((first, cluster)) = made.next() else { return Ok(None) };
    match made.find(|(_, info)| info.cluster() != cluster.cluster()) {
        Some((name, _)) => {
            let why = format!("it belongs to another cluster than {first}");
            Err(StartError::FounderOfOtherCluster { name: name.clone(), why })
        }
        None => {
            let knows = answers.iter().find(|(_, info)| info.members.made && info.leader.is_some());
            Ok(Some(knows.map_or(cluster, |(_, info)| info)))
        }
    }
}

/// The result of one attempt to join.
enum Joined {
    Identity(Identity),
    /// The cluster has no known leader.
    NoLeader,
    Refused(RpcError),
}

/// Asks the leader of a cluster to admit this node, once.
async fn join(
    config: &Config,
    pre_boot: &PreBoot,
    cluster: &PeerInfo,
    nonce: [u8; 16],
) -> Result<Joined, StartError> {
    let (Some(id), Some((_, leader))) = (cluster.cluster(), &cluster.leader) else {
        return Ok(Joined::NoLeader);
    };
    let request = async {
        Clients::new(Some(id), config.timing)
            .requests(leader)?
            .join(&config.name, &config.addrs.mesh, nonce)
            .await
    };
    match request.await {
        Ok(node) => {
            info!(node, "joining the cluster as a new member");
            pre_boot.accept(id, node)?;
            Ok(pre_boot.identity().map_or(Joined::NoLeader, Joined::Identity))
        }
        Err(error) => Ok(Joined::Refused(error)),
    }
}
