//! Says in the log who leads, each time that this changes.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::node::Node;

/// PeekBackoff once a heartbeat for as long as the node runs.
pub(crate) async fn watch(node: Arc<Node>) {
    let mut tick = interval(node.config.cluster.heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        tick.tick().await;
        let Some(replica) = node.replica() else { continue };
        let leader = replica.leader();
        if leader == known {
            continue;
        }
        known = leader;
        let term = replica.status().term;
        let Some(leader) = leader else {
            warn!(term, "no leader is known");
            continue;
        };
        let name = replica.read(|tables| {
            let row = tables.members().find(|member| member.node == leader);
            row.map_or_else(|| leader.to_string(), |row| row.name.clone())
        });
        info!(leader = %name, term, here = leader == node.id(), "a leader was elected");
    }
}
