//! The leader's eye on the other nodes: who is silent too long is declared down, and only then.
//!
//! A leader that was itself asleep must not declare everyone else dead: its own ticks must have
//! been regular and its quorum felt for the whole time of the silence, and a ping and a read barrier
//! that began since must have passed without the silent node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use limes_raft::Replica;
use limes_routing::{Epoch, Event, NodeId};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::warn;

use super::context::Presence;
use crate::router::message::LinkCommand;

/// Heartbeats after which a tick that has not come was not regular.
const REGULAR: u32 = 4;
/// Heartbeats that a suspect has for the last ping.
const LAST_PING: u32 = 2;

/// Since when this node has ticked regularly, felt the quorum, and seen others down. A new leader
/// counts the silence that it has heard before it led.
struct Eye {
    regular_since: Instant,
    ready_since: Option<Instant>,
    down_since: HashMap<NodeId, (Epoch, Instant)>,
}

/// PeekBackoff for as long as the node runs.
pub(super) async fn run(presence: Arc<Presence>) {
    let now = Instant::now();
    let mut eye = Eye { regular_since: now, ready_since: None, down_since: HashMap::new() };
    let mut last = now;
    // The leader looks once a heartbeat.
    let heartbeat = presence.config.cluster.heartbeat;
    let mut tick = interval(heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Instant::now();
        if now - last > heartbeat * REGULAR {
            eye.regular_since = now;
        }
        last = now;
        // SessionOwner was cut off has heard nobody, whoever is to blame.
        eye.ready_since = presence.consensus.is_ready().then(|| eye.ready_since.unwrap_or(now));
        let Some(replica) = presence.consensus.replica().filter(|replica| replica.is_leader()) else {
            continue;
        };
        for (silent, epoch) in suspects(&presence, replica, &eye, now) {
            declare(&presence, replica, silent, epoch).await;
        }
        drop_suspended(&presence, replica, &mut eye, now).await;
    }
}

impl Eye {
    /// Since when silence counts, where a node was heard at that time.
    fn silent_since(&self, heard: Instant, now: Instant) -> Instant {
        heard.max(self.regular_since).max(self.ready_since.unwrap_or(now))
    }
}

fn suspects(presence: &Presence, replica: &Replica, eye: &Eye, now: Instant) -> Vec<(NodeId, Epoch)> {
    let live: Vec<_> = replica.read(|tables| {
        tables.nodes().filter(|(_, row)| !row.down).map(|(id, row)| (id, row.epoch)).collect()
    });
    live.into_iter()
        .filter(|(id, _)| !presence.consensus.is_self(*id))
        .filter(|(id, _)| {
            let since = eye.silent_since(presence.peers.last_heard(*id), now);
            now.saturating_duration_since(since) > presence.config.cluster.down_after()
        })
        .collect()
}

async fn declare(presence: &Presence, replica: &Replica, silent: NodeId, epoch: Epoch) {
    let asked = Instant::now();
    let heartbeat = presence.config.cluster.heartbeat;
    if let Some(link) = presence.peers.any_calls(silent) {
        link.command(LinkCommand::Ping);
    }
    sleep(heartbeat * LAST_PING).await;
    let barrier = presence.consensus.barrier(asked + presence.config.cluster.down_after()).await;
    let slept = asked.elapsed() > heartbeat * (LAST_PING + REGULAR);
    if barrier.is_err() || slept || presence.peers.last_heard(silent) >= asked {
        return;
    }
    warn!(node = silent.0, epoch = epoch.0, "silent for too long: declaring it down");
    if let Err(error) = replica.propose(Event::NodeDown { node: silent, epoch }).await {
        warn!(%error, "the node could not be declared down");
    }
}

/// Rows of a node that does not come back within the grace are dropped.
async fn drop_suspended(presence: &Presence, replica: &Replica, eye: &mut Eye, now: Instant) {
    let down: HashMap<NodeId, Epoch> = replica
        .read(|tables| tables.nodes().filter(|(_, row)| row.down).map(|(id, row)| (id, row.epoch)).collect());
    eye.down_since.retain(|id, (epoch, _)| down.get(id) == Some(epoch));
    for (id, epoch) in down {
        let (_, since) = *eye.down_since.entry(id).or_insert((epoch, now));
        if now - since < presence.config.cluster.suspend_grace {
            continue;
        }
        if replica.read(|tables| tables.has_suspended(id)) {
            let event = Event::SuspendedDropped { node: id, epoch };
            if let Err(error) = replica.propose(event).await {
                warn!(%error, "suspended rows could not be dropped");
            }
        }
        // Looked at once per grace: a look goes over all rows.
        eye.down_since.insert(id, (epoch, now));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn silence_counts_from_when_this_node_could_have_heard() {
        let heard = Instant::now();
        let later = |s| heard + Duration::from_secs(s);
        let eye = |regular, ready: Option<u64>| Eye {
            regular_since: later(regular),
            ready_since: ready.map(later),
            down_since: HashMap::new(),
        };
        assert_eq!(eye(0, Some(0)).silent_since(heard, later(9)), heard);
        assert_eq!(eye(3, Some(0)).silent_since(heard, later(9)), later(3), "it was asleep itself");
        assert_eq!(eye(0, Some(5)).silent_since(heard, later(9)), later(5), "it was cut off itself");
        assert_eq!(eye(0, None).silent_since(heard, later(9)), later(9), "it is cut off now");
        assert_eq!(eye(1, Some(2)).silent_since(later(7), later(9)), later(7));
    }
}
