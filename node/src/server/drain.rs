//! A planned stop, in this order:
//!
//! 1. stop accepting edges and services, and admit no new sessions;
//! 2. announce the departure, so that no other node sends clients here;
//! 3. advise every session to leave, and wait until all have left or the grace is over;
//! 4. wait for the last answers, which need this node's tables;
//! 5. wait until the rows of the sessions are removed;
//! 6. stop the replica, which hands the leadership over;
//! 7. wait until peers have closed their sockets.

use std::time::{Duration, Instant};

use limes_raft::Replica;
use limes_wire::Code;
use limes_wire::frame::{GoAway, Role};
use limes_wire::limits::LINGER;
use tokio::time::timeout;
use tracing::{info, warn};

use super::assemble::Components;
use crate::consensus::departure;
use crate::router::message::SessionCommand;
use crate::tasks::Tasks;

/// How long removals of closed sessions may take at the end.
const REMOVALS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long connections may take to end whose sessions have left: a little more than a closing client of the
/// reference waits for its last answers.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(7);

/// Drains the node and stops its replica; `accepting` are the listeners of edges and services.
pub(super) async fn leave(node: &Components, replica: &Replica, accepting: &Tasks) {
    info!(sessions = node.sessions.len(), "leaving");
    accepting.cancel();
    node.consensus.drain();
    departure::announce(replica, true).await;
    let grace = node.config.cluster.drain_grace;
    let until = Instant::now() + grace;
    retire_sessions(node, until);
    if timeout(grace, node.sessions.wait_empty()).await.is_err() {
        warn!(sessions = node.sessions.len(), "closing sessions that did not finish in time");
    }
    node.connections.close();
    let remaining = until.saturating_duration_since(Instant::now());
    let _ = timeout(LAST_ANSWERS_TIMEOUT.min(remaining), node.connections.wait()).await;
    let _ = timeout(REMOVALS_TIMEOUT, node.presence.removals_settled()).await;
    replica.shutdown().await;
    // A socket that is closed while its peer still sends is reset, and the reset may discard the final GOAWAY,
    // which names the requests that were not read.
    if timeout(LINGER, node.connections.wait()).await.is_err() {
        warn!(connections = node.connections.len(), "leaving connections that their peers do not close");
    }
    info!("left");
}

/// Advises every session to leave before the grace is over.
fn retire_sessions(node: &Components, until: Instant) {
    for (_, entry) in node.sessions.all() {
        let role = if entry.owner.is_edge() { Role::Edge } else { Role::Service };
        let mut goaway = GoAway::new(Code::DRAINING, "this node is stopping; go to another");
        goaway.peers = node.consensus.other_addresses(role);
        entry.handle.command(SessionCommand::Retire(goaway, until));
    }
}
