//! How a member comes by its identity: founding a cluster or joining one.
//!
//! The first founder by the order of `initial` makes the cluster, and only after every other
//! founder has answered that it has no cluster id. It writes its own identity first, then gives each
//! other founder its number, and initialises Raft when all have written theirs. Whoever is started
//! again in between goes on where it was. Everybody else joins: it asks until a cluster answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngCore;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::identity::{self, Identity};
use crate::network::{Clients, IdentifyReply};
use crate::replica::StartError;
use crate::settings::Config;

/// How often the others are asked.
const ASK: Duration = Duration::from_millis(150);
/// Unanswered rounds after which the log says what is waited for.
const PATIENCE: u32 = 40;

/// How long a member that has an identity waits for a founder's word before it goes on all the same.
const HOME: Duration = Duration::from_secs(5);

/// The identity of a member that may not have one yet.
pub(crate) struct Founding {
    dir: PathBuf,
    /// Its number if it founds, by its own list of founders.
    founder: Option<u64>,
    identity: Mutex<Option<Identity>>,
}

impl Founding {
    pub(crate) fn new(config: &Config, identity: Option<Identity>) -> Self {
        let founder = config.initial.iter().zip(1..).find(|(peer, _)| peer.name == config.name);
        let founder = founder.map(|(_, number)| number);
        Founding { dir: config.dir.clone(), founder, identity: Mutex::new(identity) }
    }

    /// Takes the number that the first founder gives.
    pub(crate) fn found(&self, cluster: [u8; 16], node: u64) -> Result<(), String> {
        match self.founder {
            Some(founder) if founder == node => self.accept(cluster, node),
            _ => Err(format!("by its own cluster.initial this node is not founder {node}")),
        }
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an identity, durably; the same again is fine, another is refused.
    pub(crate) fn accept(&self, cluster: [u8; 16], node: u64) -> Result<(), String> {
        let mut held = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Identity { cluster, node };
        match *held {
            Some(known) if known == fresh => Ok(()),
            Some(_) => Err("this node already belongs to a cluster".to_owned()),
            None => {
                identity::write(&self.dir, fresh).map_err(|error| error.to_string())?;
                *held = Some(fresh);
                Ok(())
            }
        }
    }
}

/// Finds out who this member is; returns when its identity is on disk.
///
/// # Errors
/// The disk failed, or the configuration cannot work.
pub(crate) async fn find(config: &Config, founding: &Founding) -> Result<Identity, StartError> {
    let founds = config.initial.first().is_some_and(|first| first.name == config.name);
    let clients = Clients::new([0; 16], config.timing);
    let mut nonce = [0; 16];
    rand::rng().fill_bytes(&mut nonce);
    let mut rounds: u32 = 0;
    if let Some(identity) = founding.identity() {
        check_home(config, &clients, identity).await?;
        return Ok(identity);
    }
    loop {
        if let Some(identity) = founding.identity() {
            return Ok(identity);
        }
        let Answers { answers, silent } = ask_all(config, &clients).await;
        let cluster = one_cluster(&answers)?;
        let unfounded = answers.iter().all(|(_, answer)| answer.cluster.is_empty());
        if let Some(cluster) = cluster {
            if let Some(identity) = join(config, founding, cluster, nonce).await? {
                return Ok(identity);
            }
        } else if founds && silent.is_empty() && unfounded {
            let mut cluster = [0; 16];
            rand::rng().fill_bytes(&mut cluster);
            info!(founders = config.initial.len(), "founding a cluster");
            founding.accept(cluster, 1).map_err(StartError::Identity)?;
            continue;
        }
        rounds += 1;
        if rounds.is_multiple_of(PATIENCE) {
            let founded: Vec<_> = answers
                .iter()
                .filter(|(_, answer)| !answer.cluster.is_empty())
                .map(|(name, _)| name)
                .collect();
            warn!(?silent, ?founded, "waiting for the other nodes of cluster.initial");
        }
        sleep(ASK).await;
    }
}

/// Refuses a directory of another cluster: one that most founders belong to. A single one that
/// differs may itself be the one in the wrong place. Whoever finds nobody goes on: it may be the
/// first that is back.
async fn check_home(config: &Config, clients: &Clients, identity: Identity) -> Result<(), StartError> {
    let others = config.initial.iter().filter(|peer| peer.name != config.name).count();
    let until = Instant::now() + HOME;
    while others > 0 && Instant::now() < until {
        let Answers { answers, .. } = ask_all(config, clients).await;
        let mut elsewhere: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
        for (name, answer) in answers.iter().filter(|(_, answer)| !answer.cluster.is_empty()) {
            elsewhere.entry(answer.cluster.as_ref()).or_default().push(name);
        }
        if elsewhere.remove(&identity.cluster[..]).is_some() {
            return Ok(());
        }
        if let Some((cluster, names)) =
            elsewhere.iter().find(|(_, names)| names.len() * 2 > config.initial.len())
        {
            return Err(StartError::Elsewhere {
                dir: config.dir.clone(),
                ours: hex(&identity.cluster),
                theirs: hex(cluster),
                names: names.join(" and "),
            });
        }
        if answers.len() == others {
            return Ok(());
        }
        sleep(ASK).await;
    }
    Ok(())
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the nodes of `cluster.initial` say, by their names, and who says nothing.
struct Answers {
    answers: Vec<(String, IdentifyReply)>,
    silent: Vec<String>,
}

async fn ask_all(config: &Config, clients: &Clients) -> Answers {
    let others = config.initial.iter().filter(|peer| peer.name != config.name);
    let asks = others.map(|peer| async move {
        let answer = async { clients.ask(&peer.addr)?.identify().await }.await;
        (peer, answer)
    });
    let mut all = Answers { answers: Vec::new(), silent: Vec::new() };
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

/// Asks the leader of a cluster to be let in.
async fn join(
    config: &Config,
    founding: &Founding,
    cluster: &IdentifyReply,
    nonce: [u8; 16],
) -> Result<Option<Identity>, StartError> {
    let Ok(id) = <[u8; 16]>::try_from(cluster.cluster.as_ref()) else { return Ok(None) };
    if cluster.leader_addr.is_empty() {
        return Ok(None);
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
            founding.accept(id, node).map_err(StartError::Identity)?;
            Ok(founding.identity())
        }
        Err(error) => {
            info!(%error, "the cluster has not let this node in yet");
            Ok(None)
        }
    }
}

/// Gives the other founders their numbers; returns when all have written them.
///
/// # Errors
/// A founder belongs to another cluster.
pub(crate) async fn found_others(config: &Config, identity: Identity) -> Result<(), StartError> {
    let clients = Clients::new(identity.cluster, config.timing);
    for (peer, node) in config.initial.iter().zip(1..).filter(|(_, node)| *node != identity.node) {
        let mut rounds: u32 = 0;
        loop {
            let found = async { clients.ask(&peer.addr)?.found(identity.cluster, node).await };
            match found.await {
                Ok(()) => break,
                Err(crate::network::RpcError::Status(status))
                    if status.code() == tonic::Code::FailedPrecondition =>
                {
                    return Err(StartError::OtherCluster(peer.name.clone(), status.message().to_owned()));
                }
                Err(_) => sleep(ASK).await,
            }
            rounds += 1;
            if rounds.is_multiple_of(PATIENCE) {
                warn!(peer = %peer.name, "waiting for a founder");
            }
        }
    }
    Ok(())
}
