//! The announcement of a planned stop: no node sends clients to a node that is leaving, while that node still
//! serves its sessions.
//!
//! It is a setting in the tables whose value is the boot nonce of the process, so that it does not apply to the
//! next boot of the node.

use std::time::Duration;

use limes_raft::Replica;
use limes_routing::{Event, NodeId, NodeRow, Tables};
use tokio::time::timeout;

/// How long the announcement may take to commit; after that the node goes on without it.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(2);

fn key(node: NodeId) -> String {
    format!("leaving.{}", node.0)
}

/// Whether this boot of a node is about to end.
pub(crate) fn is_leaving(tables: &Tables, node: NodeId, row: &NodeRow) -> bool {
    tables.setting(&key(node)).is_some_and(|boot| boot == limes_raft::hex(&row.boot))
}

/// Announces that this node is leaving, or that it is back. Waits 2 s at most, and ignores a failure: without a
/// quorum nothing can be announced.
pub(crate) async fn announce(replica: &Replica, leaves: bool) {
    let node = replica.status().node;
    let (value, known) = replica.read(|tables| {
        let boot = tables.node(node).filter(|_| leaves).map(|row| limes_raft::hex(&row.boot));
        (boot.unwrap_or_default(), tables.setting(&key(node)).unwrap_or_default().to_owned())
    });
    if value != known {
        let _ = timeout(
            ANNOUNCE_TIMEOUT,
            replica.propose_for_verdict(Event::SettingChanged { key: key(node), value }),
        )
        .await;
    }
}
