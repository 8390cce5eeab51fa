//! The leader's failure detector: a node that has been silent for too long is declared down, and only then.
//!
//! A leader that was itself suspended must not declare the other nodes down. So its own ticks must have been
//! regular and it must have had the quorum for the whole time of the silence, and after that a ping and a read
//! barrier must have passed without a sign from the silent node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use limes_raft::Replica;
use limes_routing::{Epoch, Event, NodeId};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::warn;

use super::context::Presence;
use crate::router::message::LinkCommand;

/// Heartbeats after which a missing tick counts as irregular.
const REGULAR: u32 = 4;
/// Heartbeats that a suspect has to answer the last ping.
const LAST_PING: u32 = 2;

/// What bounds the silence that this node may blame on others. A new leader counts the silence from before it
/// led.
struct FailureDetector {
    /// Since when this node has ticked regularly.
    regular_since: Instant,
    /// Since when it has had the quorum.
    ready_since: Option<Instant>,
    /// Since when it has seen each node down, and in which epoch.
    down_since: HashMap<NodeId, (Epoch, Instant)>,
}

/// Looks for silent nodes once a heartbeat, for as long as the node runs.
pub(super) async fn run(presence: Arc<Presence>, replica: Replica) {
    let now = Instant::now();
    let mut detector = FailureDetector { regular_since: now, ready_since: None, down_since: HashMap::new() };
    let mut last = now;
    let heartbeat = presence.config.cluster.heartbeat;
    let mut tick = interval(heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = Instant::now();
        if now - last > heartbeat * REGULAR {
            detector.regular_since = now;
        }
        last = now;
        // A node without the quorum receives from no other node, whichever side is at fault.
        detector.ready_since = presence.consensus.is_ready().then(|| detector.ready_since.unwrap_or(now));
        if !replica.is_leader() {
            continue;
        }
        for (silent, epoch) in suspects(&presence, &replica, &detector, now) {
            declare(&presence, &replica, silent, epoch).await;
        }
        drop_suspended(&presence, &replica, &mut detector, now).await;
    }
}

impl FailureDetector {
    /// Since when silence counts, for a node that gave its last sign at `last_sign`.
    fn silent_since(&self, last_sign: Instant, now: Instant) -> Instant {
        last_sign.max(self.regular_since).max(self.ready_since.unwrap_or(now))
    }
}

fn suspects(
    presence: &Presence,
    replica: &Replica,
    detector: &FailureDetector,
    now: Instant,
) -> Vec<(NodeId, Epoch)> {
    let live: Vec<_> = replica.read(|tables| {
        tables.nodes().filter(|(_, row)| !row.down).map(|(id, row)| (id, row.epoch)).collect()
    });
    live.into_iter()
        .filter(|(id, _)| !presence.consensus.is_self(*id))
        .filter(|(id, _)| {
            let since = detector.silent_since(presence.peers.last_heard(*id), now);
            now.saturating_duration_since(since) > presence.config.cluster.down_after()
        })
        .collect()
}

async fn declare(presence: &Presence, replica: &Replica, silent: NodeId, epoch: Epoch) {
    let pinged = Instant::now();
    let heartbeat = presence.config.cluster.heartbeat;
    if let Some(link) = presence.peers.any_calls(silent) {
        link.command(LinkCommand::Ping);
    }
    sleep(heartbeat * LAST_PING).await;
    let barrier = presence.consensus.barrier(pinged + presence.config.cluster.down_after()).await;
    let was_suspended = pinged.elapsed() > heartbeat * (LAST_PING + REGULAR);
    if barrier.is_err() || was_suspended || presence.peers.last_heard(silent) >= pinged {
        return;
    }
    warn!(node = silent.0, epoch = epoch.0, "silent for too long: declaring it down");
    if let Err(error) = replica.propose(Event::NodeDown { node: silent, epoch }).await {
        warn!(%error, "the node could not be declared down");
    }
}

/// Drops the suspended rows of nodes that have been down for longer than the grace.
async fn drop_suspended(
    presence: &Presence,
    replica: &Replica,
    detector: &mut FailureDetector,
    now: Instant,
) {
    let down: HashMap<NodeId, Epoch> = replica
        .read(|tables| tables.nodes().filter(|(_, row)| row.down).map(|(id, row)| (id, row.epoch)).collect());
    detector.down_since.retain(|id, (epoch, _)| down.get(id) == Some(epoch));
    for (id, epoch) in down {
        let (_, since) = *detector.down_since.entry(id).or_insert((epoch, now));
        if now - since < presence.config.cluster.suspend_grace {
            continue;
        }
        if replica.read(|tables| tables.has_suspended(id)) {
            let event = Event::SuspendedDropped { node: id, epoch };
            if let Err(error) = replica.propose(event).await {
                warn!(%error, "suspended rows could not be dropped");
            }
        }
        // Checked once per grace: a check reads all rows.
        detector.down_since.insert(id, (epoch, now));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn silence_counts_only_while_this_node_could_receive() {
        let last_sign = Instant::now();
        let later = |s| last_sign + Duration::from_secs(s);
        let since = |regular, ready: Option<u64>| {
            let detector = FailureDetector {
                regular_since: later(regular),
                ready_since: ready.map(later),
                down_since: HashMap::new(),
            };
            detector.silent_since(last_sign, later(9))
        };
        assert_eq!(since(0, Some(0)), last_sign);
        assert_eq!(since(3, Some(0)), later(3), "this node was suspended itself");
        assert_eq!(since(0, Some(5)), later(5), "this node had no quorum");
        assert_eq!(since(0, None), later(9), "this node has no quorum now");
    }

    #[test]
    fn silence_begins_at_the_last_sign() {
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        let detector = FailureDetector {
            regular_since: later(1),
            ready_since: Some(later(2)),
            down_since: HashMap::new(),
        };
        assert_eq!(detector.silent_since(later(7), later(9)), later(7));
    }
}
