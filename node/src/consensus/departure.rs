//! A node that stops says so to all before it goes: whoever asks any node where to go is not sent here
//! any more, while this one still serves.
//!
//! It is a setting of the tables that names the process, so that the next start of the node is not meant.

use std::time::Duration;

use limes_raft::Replica;
use limes_routing::{Event, NodeId, NodeRow, Tables};
use tokio::time::timeout;

/// How long the others may take to agree; after that it goes without.
const PATIENCE: Duration = Duration::from_secs(2);

fn key(node: NodeId) -> String {
    format!("leaving.{}", node.0)
}

/// Whether this life of a node is about to end.
pub(crate) fn is_leaving(tables: &Tables, node: NodeId, row: &NodeRow) -> bool {
    tables.setting(&key(node)).is_some_and(|boot| boot == limes_raft::hex(&row.boot))
}

/// Says so, or that it is back. An answer is not waited for for long, nor is a failure told: without a
/// quorum nobody can be told anything.
pub(crate) async fn announce(replica: &Replica, leaves: bool) {
    let node = replica.status().node;
    let (value, known) = replica.read(|tables| {
        let boot = tables.node(node).filter(|_| leaves).map(|row| limes_raft::hex(&row.boot));
        (boot.unwrap_or_default(), tables.setting(&key(node)).unwrap_or_default().to_owned())
    });
    if value != known {
        let _ = timeout(PATIENCE, replica.propose_for_verdict(Event::SettingChanged { key: key(node), value })).await;
    }
}
