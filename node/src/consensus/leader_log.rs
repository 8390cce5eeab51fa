//! Logs each change of the leader.

use std::time::Duration;

use limes_raft::Replica;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::handle::Consensus;

/// Checks once a heartbeat, for as long as the node runs, and logs a new leader.
pub(crate) async fn watch(replica: Replica, consensus: Consensus, heartbeat: Duration) {
    let mut tick = interval(heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        tick.tick().await;
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
        info!(leader = %name, term, here = consensus.is_self(leader), "a leader was elected");
    }
}
