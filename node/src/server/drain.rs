//! A planned stop: announce it, let sessions finish, leave the tables, hand over, stop.

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

/// How long removals of closed sessions may take at the end.
const REMOVALS: Duration = Duration::from_secs(1);
/// How long connections may take to end whose sessions have left: a little more than a client of the reference
/// that closes waits for its last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(7);

/// Drains the node and stops its replica.
pub(super) async fn leave(node: &Components, replica: &Replica) {
    info!(sessions = node.sessions.len(), "leaving");
    node.consensus.drain();
    departure::announce(replica, true).await;
    let grace = node.config.cluster.drain_grace;
    let until = Instant::now() + grace;
    for (_, entry) in node.sessions.all() {
        let role = if entry.who.is_edge() { Role::Edge } else { Role::Service };
        let mut goaway = GoAway::new(Code::DRAINING, "this node is stopping; go to another");
        goaway.peers = node.consensus.other_addresses(role);
        entry.handle.command(SessionCommand::Retire(goaway, until));
    }
    if timeout(grace, node.sessions.wait_empty()).await.is_err() {
        warn!(sessions = node.sessions.len(), "closing sessions that did not finish in time");
    }
    // Clients that have left may still wait for answers, which need this node's tables.
    node.connections.close();
    let remaining = until.saturating_duration_since(Instant::now());
    let _ = timeout(LAST_ANSWERS.min(remaining), node.connections.wait()).await;
    let _ = timeout(REMOVALS, node.presence.removals_settled()).await;
    replica.shutdown().await;
    // A socket that is closed while its peer still sends is reset, and the final GOAWAY, which says what was
    // not read, may be lost with it.
    if timeout(LINGER, node.connections.wait()).await.is_err() {
        warn!(connections = node.connections.len(), "leaving connections that their peers do not close");
    }
    info!("left");
}
