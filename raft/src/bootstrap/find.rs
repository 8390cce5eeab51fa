//! How a member comes by its identity: founding a cluster, joining one, or finding out that the
//! identity it has is still good.
//!
//! The first founder by the order of `initial` makes the cluster, and only after every other
//! founder has answered that it has no cluster id. It writes its own identity first, then gives each
//! other founder its number, and initialises Raft when all have written theirs. Whoever is started
//! again in between goes on where it was, also if it lost its disk. Everybody else joins: it asks
//! until a cluster answers.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngCore;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::bootstrap::pre_boot::Door;
use crate::bootstrap::staleness::{Standing, Word, judge};
use crate::config::{Config, PeerAddr};
use crate::membership::quorum_report::{self as quorum, State, Voter};
use crate::network::{Clients, IdentifyReply, RpcError};
use crate::replica::StartError;
use crate::storage::identity::{Identity, hex};
use crate::storage::member_cache::Known;

/// How often the others are asked.
const ASK: Duration = Duration::from_millis(150);
/// How often the log says what is waited for.
const SAY: Duration = Duration::from_secs(6);

/// How long a member that has an identity waits for others' word before it goes on all the same.
const HOME: Duration = Duration::from_secs(5);
/// How long it waits for the rest once one of its own cluster has answered.
const REST: Duration = Duration::from_millis(1_500);

/// What became of the search.
#[derive(Debug)]
pub(crate) enum Found {
    /// Who this member is; it is on disk.
    Identity(Identity),
    /// Its directory must not be used any more.
    Outdated(String),
}

/// Finds out who this member is. `next` is the index of its log's newest entry, plus one.
///
/// # Errors
/// The disk failed, or the configuration cannot work.
pub(crate) async fn find(config: &Config, door: &Door, next: u64) -> Result<Found, StartError> {
    let founds = config.initial.first().is_some_and(|first| first.name == config.name);
    let clients = Clients::new([0; 16], config.timing);
    let mut nonce = [0; 16];
    rand::rng().fill_bytes(&mut nonce);
    let (mut said, mut refused) = (Instant::now(), None);
    if let Some(identity) = door.identity() {
        return check_home(config, door, identity, next).await;
    }
    loop {
        if let Some(identity) = door.identity() {
            return Ok(Found::Identity(identity));
        }
        let asked = ask_all(config, &clients, &config.initial, None).await;
        let cluster = one_cluster(&asked.answers)?;
        if let Some(cluster) = cluster {
            match join(config, door, cluster, nonce).await? {
                Ok(identity) => return Ok(Found::Identity(identity)),
                Err(error) => refused = error.or(refused),
            }
        } else if founds
            && asked.silent.is_empty()
            && !door.has_lost()
            && let Some(cluster) = found(&asked.answers)
        {
            info!(founders = config.initial.len(), "founding a cluster");
            door.accept(cluster, 1).map_err(StartError::Identity)?;
            continue;
        }
        if said.elapsed() >= SAY {
            said = Instant::now();
            if let Some(error) = refused.take() {
                info!(%error, "the cluster has not let this node in yet");
            }
            say(config, door, &asked, cluster);
        }
        sleep(ASK).await;
    }
}

/// The id of the cluster that is to be founded: a new one if nobody has any. If the others have one
/// that was never used, this founder gave it to them and lost its disk before it could go on.
fn found(answers: &[(String, IdentifyReply)]) -> Option<[u8; 16]> {
    if answers.iter().any(|(_, answer)| answer.lost) {
        return None;
    }
    let mut given = answers.iter().filter(|(_, answer)| !answer.cluster.is_empty());
    let Some((_, first)) = given.next() else {
        let mut cluster = [0; 16];
        rand::rng().fill_bytes(&mut cluster);
        return Some(cluster);
    };
    let same = given.all(|(_, other)| other.cluster == first.cluster && other.unused);
    if same && first.unused { first.cluster.as_ref().try_into().ok() } else { None }
}

/// Says what is waited for.
fn say(config: &Config, door: &Door, asked: &Asked, cluster: Option<&IdentifyReply>) {
    let Asked { answers, silent } = asked;
    if let Some(cluster) = cluster {
        let without = |name: &str| name == config.name || answers.iter().any(|(n, a)| n == name && a.lost);
        if let Some(words) = quorum::words(&voters(&cluster.members, answers, without)) {
            error!("{words}");
        }
        return;
    }
    let lost = answers.iter().filter(|(_, answer)| answer.lost).count() + usize::from(door.has_lost());
    if lost > 0 && silent.is_empty() && answers.iter().all(|(_, answer)| answer.cluster.is_empty()) {
        error!(
            "no node of cluster.initial has its data any more, {lost} of them because it was damaged and set aside: put \
             back the data directory of a majority; or, to begin anew without what was there, move away the \
             data directories of all nodes"
        );
        return;
    }
    let founded: Vec<_> =
        answers.iter().filter(|(_, answer)| !answer.cluster.is_empty()).map(|(name, _)| name).collect();
    warn!(?silent, ?founded, "waiting for the other nodes of cluster.initial");
}

/// What is known of each voter.
pub(crate) fn voters(
    members: &[crate::network::Acquainted],
    answers: &[(String, IdentifyReply)],
    without_data: impl Fn(&str) -> bool,
) -> Vec<Voter> {
    let state = |member: &crate::network::Acquainted| {
        let answer = answers.iter().find(|(name, _)| *name == member.name).map(|(_, answer)| answer);
        match answer {
            _ if without_data(&member.name) => State::WithoutData,
            Some(answer) if answer.node == member.node => State::Here,
            Some(_) => State::WithoutData,
            None => State::Silent,
        }
    };
    let voters = members.iter().filter(|member| member.voter);
    voters.map(|member| Voter { name: member.name.clone(), state: state(member) }).collect()
}

/// What is known of each voter, seen from one that runs.
pub(crate) async fn look_around(config: &Config, clients: &Clients, me: u64, known: Known) -> Vec<Voter> {
    let (listed, others) = (&config.initial, unlisted(config, &known));
    let asked = [ask_all(config, clients, listed, None).await, ask_all(config, clients, &others, None).await];
    let voter = |member: &crate::storage::member_cache::Acquaintance| {
        let answers =
            || asked.iter().flat_map(|asked| &asked.answers).filter(|(name, _)| *name == member.name);
        match answers().next() {
            _ if member.node == me => State::Here,
            _ if answers().any(|(_, answer)| answer.node == member.node) => State::Here,
            Some(_) => State::WithoutData,
            None => State::Silent,
        }
    };
    let voters = known.members.iter().filter(|member| member.voter);
    voters.map(|member| Voter { name: member.name.clone(), state: voter(member) }).collect()
}

/// Where members are known to be, beside what the settings list.
fn unlisted(config: &Config, known: &Known) -> Vec<PeerAddr> {
    let peers = known.members.iter().map(|member| (member.name.clone(), member.mesh.clone()));
    let peers = peers.map(|(name, addr)| PeerAddr { name, addr });
    let mut peers: Vec<_> = peers.filter(|peer| !config.initial.contains(peer)).collect();
    peers.dedup();
    peers
}

/// Refuses the directory of another member of the same cluster: a member keeps its name and its number for
/// ever, and two processes of one number would each be taken for the other.
fn check_name(
    config: &Config,
    node: u64,
    mut members: impl Iterator<Item = (u64, String)>,
) -> Result<(), StartError> {
    match members.find(|(number, name)| *number == node && *name != config.name) {
        Some((_, owner)) => {
            let (dir, me) = (config.dir.clone(), config.name.clone());
            Err(StartError::OfAnother { dir, owner, me })
        }
        None => Ok(()),
    }
}

/// Refuses a directory of another cluster (one that most founders belong to; a single one that differs
/// may itself be the one in the wrong place), of another member, of one that was removed, and an old copy. Whoever
/// finds nobody goes on: it may be the first that is back. Where a node belongs is for the settings to
/// say, not for the directory, which knows where the nodes of its own cluster were.
async fn check_home(
    config: &Config,
    door: &Door,
    identity: Identity,
    next: u64,
) -> Result<Found, StartError> {
    let clients = Clients::new(identity.cluster, config.timing);
    let known = door.known();
    let unlisted = unlisted(config, &known);
    check_name(config, identity.node, known.members.into_iter().map(|member| (member.node, member.name)))?;
    let others = config.initial.iter().chain(&unlisted).filter(|peer| peer.name != config.name).count();
    let mut until = Instant::now() + HOME;
    let mut met = false;
    while others > 0 && Instant::now() < until {
        let me = Some(identity.node);
        let (listed, known) = futures::join!(
            ask_all(config, &clients, &config.initial, me),
            ask_all(config, &clients, &unlisted, me)
        );
        let mut elsewhere: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
        for (name, answer) in listed.answers.iter().filter(|(_, answer)| !answer.cluster.is_empty()) {
            elsewhere.entry(answer.cluster.as_ref()).or_default().push(name);
        }
        if elsewhere.remove(&identity.cluster[..]).is_none()
            && let Some((cluster, names)) =
                elsewhere.iter().find(|(_, names)| names.len() * 2 > config.initial.len())
        {
            return Err(StartError::Elsewhere {
                dir: config.dir.clone(),
                ours: hex(&identity.cluster),
                theirs: hex(cluster),
                names: names.join(" and "),
            });
        }
        let answers = || listed.answers.iter().chain(&known.answers);
        let ours = || answers().filter(|(_, answer)| answer.cluster == identity.cluster[..]);
        for (name, answer) in ours() {
            let members = answer.members.iter().map(|member| (member.node, member.name.clone()));
            check_name(config, identity.node, members)?;
            match judge(&identity, next, &word(config, identity.node, name, answer)) {
                Standing::Sound => {}
                Standing::Outdated(why) => return Ok(Found::Outdated(why)),
                Standing::Removed(why) => return Err(StartError::Removed(config.dir.clone(), why)),
            }
        }
        if answers().count() == others {
            break;
        }
        if ours().next().is_some() && !met {
            (met, until) = (true, until.min(Instant::now() + REST));
        }
        sleep(ASK).await;
    }
    Ok(Found::Identity(identity))
}

/// What an answer says of this member.
fn word(config: &Config, node: u64, from: &str, answer: &IdentifyReply) -> Word {
    let me = answer.members.iter().find(|member| member.node == node);
    let namesakes = answer.members.iter().filter(|member| member.name == config.name);
    Word {
        from: from.to_owned(),
        made: answer.made,
        revision: answer.revision,
        belongs: me.is_some(),
        boot: me.map(|member| member.boot.clone()).unwrap_or_default(),
        named: namesakes.map(|member| member.node).max().unwrap_or(0),
        acknowledged: answer.acknowledged,
    }
}

/// What nodes say, by their names, and who says nothing.
struct Asked {
    answers: Vec<(String, IdentifyReply)>,
    silent: Vec<String>,
}

async fn ask_all(config: &Config, clients: &Clients, peers: &[PeerAddr], me: Option<u64>) -> Asked {
    let others = peers.iter().filter(|peer| peer.name != config.name);
    let asks = others.map(|peer| async move {
        let answer = async {
            let mut client = clients.ask(&peer.addr)?;
            match me {
                Some(node) => client.know(node, &config.name).await,
                None => client.identify().await,
            }
        };
        (peer, answer.await)
    });
    let mut all = Asked { answers: Vec::new(), silent: Vec::new() };
    for (peer, answer) in futures::future::join_all(asks).await {
        match answer {
            Ok(answer) if answer.name == peer.name => all.answers.push((peer.name.clone(), answer)),
            Ok(answer) => all.silent.push(format!("{} (at its address is {})", peer.name, answer.name)),
            Err(_) => all.silent.push(peer.name.clone()),
        }
    }
    all
}

/// The cluster that has been made already, if there is one.
fn one_cluster(answers: &[(String, IdentifyReply)]) -> Result<Option<&IdentifyReply>, StartError> {
    let mut made = answers.iter().filter(|(_, answer)| answer.made);
    let Some((first, cluster)) = made.next() else { return Ok(None) };
    match made.find(|(_, answer)| answer.cluster != cluster.cluster) {
        Some((name, _)) => {
            let why = format!("it belongs to another cluster than {first}");
            Err(StartError::OtherCluster(name.clone(), why))
        }
        // Whoever knows the leader is the one to follow.
        None => {
            let knows = answers.iter().find(|(_, answer)| answer.made && !answer.leader_addr.is_empty());
            Ok(Some(knows.map_or(cluster, |(_, answer)| answer)))
        }
    }
}

/// Asks the leader of a cluster to be let in, if it has one that is known; else, or if it does not, says why.
async fn join(
    config: &Config,
    door: &Door,
    cluster: &IdentifyReply,
    nonce: [u8; 16],
) -> Result<Result<Identity, Option<RpcError>>, StartError> {
    let Ok(id) = <[u8; 16]>::try_from(cluster.cluster.as_ref()) else { return Ok(Err(None)) };
    if cluster.leader_addr.is_empty() {
        return Ok(Err(None));
    }
    let asked = async {
        Clients::new(id, config.timing)
            .ask(&cluster.leader_addr)?
            .join(&config.name, &config.addrs.mesh, nonce)
            .await
    };
    match asked.await {
        Ok(node) => {
            info!(node, "joining the cluster as a new member");
            door.accept(id, node).map_err(StartError::Identity)?;
            Ok(door.identity().ok_or(None))
        }
        Err(error) => Ok(Err(Some(error))),
    }
}

/// Gives the other founders their numbers; returns when all have written them.
///
/// # Errors
/// A founder belongs to another cluster.
pub(crate) async fn found_others(config: &Config, identity: Identity) -> Result<(), StartError> {
    let clients = Clients::new(identity.cluster, config.timing);
    for (peer, node) in config.initial.iter().zip(1..).filter(|(_, node)| *node != identity.node) {
        let mut said = Instant::now();
        loop {
            let found = async { clients.ask(&peer.addr)?.found(identity.cluster, node).await };
            match found.await {
                Ok(()) => break,
                Err(RpcError::Status(status)) if status.code() == tonic::Code::FailedPrecondition => {
                    return Err(StartError::OtherCluster(peer.name.clone(), status.message().to_owned()));
                }
                Err(_) => sleep(ASK).await,
            }
            if said.elapsed() >= SAY {
                said = Instant::now();
                warn!(peer = %peer.name, "waiting for a founder");
            }
        }
    }
    Ok(())
}
