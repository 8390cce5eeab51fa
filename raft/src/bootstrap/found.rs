//! Founding: what the first founder does after it has its identity.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::RaftMetrics;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::error::StartError;
use super::search::{PAUSE, REPORT_INTERVAL};
use crate::config::Config;
use crate::consensus::member::Member;
use crate::network::{Clients, RpcError};
use crate::storage::identity::Identity;
use crate::types::{Node, TypeConfig};

/// Pause between two attempts at the first election: a few times what a founder takes to open an empty log.
const FIRST_ELECTION_PAUSE: Duration = Duration::from_millis(50);

/// As the first founder of a new cluster: gives the other founders their numbers, then initialises Raft. Does
/// nothing on any other member, and nothing where Raft is initialised already.
///
/// # Errors
/// A founder belongs to another cluster, or Raft has stopped.
///
/// # Cancel safety
/// Safe: a founder that starts again continues here.
pub(crate) async fn initialize(member: &Member, config: &Config) -> Result<(), StartError> {
    let raft = |error: String| StartError::Raft(error);
    if member.identity.node != 1 || config.initial.first().is_none_or(|first| first.name != config.name) {
        return Ok(());
    }
    if member.raft.is_initialized().await.map_err(|error| raft(error.to_string()))? {
        return Ok(());
    }
    assign_numbers(config, member.identity).await?;
    let members: BTreeMap<u64, Node> =
        config.initial.iter().zip(1..).map(|(peer, node)| (node, Node::new(&peer.addr))).collect();
    member.raft.initialize(members).await.map_err(|error| raft(error.to_string()))?;
    first_election(member, config.timing.election_max).await.map_err(|error| raft(error.to_string()))
}

/// Gives the other founders their numbers; returns when all have written them.
async fn assign_numbers(config: &Config, identity: Identity) -> Result<(), StartError> {
    let clients = Clients::new(Some(identity.cluster), config.timing);
    for (peer, node) in config.initial.iter().zip(1..).filter(|(_, node)| *node != identity.node) {
        let mut reported = Instant::now();
        loop {
            let found = async { clients.requests(&peer.addr)?.found(identity.cluster, node).await };
            match found.await {
                Ok(()) => break,
                Err(RpcError::Status(status)) if status.code() == tonic::Code::FailedPrecondition => {
                    let (name, why) = (peer.name.clone(), status.message().to_owned());
                    return Err(StartError::FounderOfOtherCluster { name, why });
                }
                Err(_) => sleep(PAUSE).await,
            }
            if reported.elapsed() >= REPORT_INTERVAL {
                reported = Instant::now();
                warn!(peer = %peer.name, "waiting for a founder");
            }
        }
    }
    Ok(())
}

/// Starts elections until a member leads. No member can have led before, so there is no lease to wait for,
/// only founders that are still opening their logs. After `limit` Raft's timers go on alone.
async fn first_election(member: &Member, limit: Duration) -> Result<(), openraft::error::Fatal<TypeConfig>> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        // A Pre-Vote that is not granted raises no term.
        member.raft.trigger().elect(true).await?;
        let has_leader = |metrics: &RaftMetrics<TypeConfig>| metrics.current_leader.is_some();
        let wait = member.raft.wait(Some(FIRST_ELECTION_PAUSE));
        if wait.metrics(has_leader, "the first leader").await.is_ok() {
            break;
        }
    }
    Ok(())
}
