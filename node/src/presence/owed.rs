//! Callbacks that are due because an edge has gone: made by the node that held it, or by the leader
//! when that node is down; at least once each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use limes_raft::Replica;
use limes_routing::{EdgeId, Event, Incarnation, NodeId, Owed};
use limes_wire::callback::{EDGE_OFFLINE, EdgeFacts};
use tokio::time::timeout;

use super::callback::{self, Said};
use crate::node::Node;

/// How often what is owed is looked at when nothing new is due.
const TICK: Duration = Duration::from_secs(1);
/// How long a callback is kept while no service offers it.
const KEPT: Duration = Duration::from_secs(60);
/// Callbacks of this node under way at once, and so the most that one service has to bear from it.
const AT_ONCE: usize = 64;

type Key = (EdgeId, Incarnation);

/// Makes callbacks for as long as the node runs.
pub(super) async fn run(node: Arc<Node>) {
    let mut first_seen: HashMap<Key, Instant> = HashMap::new();
    loop {
        let _ = timeout(TICK, node.presence.owed.notified()).await;
        let Some(replica) = node.replica() else { continue };
        let due = due(&node, replica);
        let keys: HashSet<Key> = due.iter().map(|owed| (owed.edge, owed.incarnation)).collect();
        first_seen.retain(|key, _| keys.contains(key));
        let due = due.into_iter().map(|owed| {
            let since = *first_seen.entry((owed.edge, owed.incarnation)).or_insert_with(Instant::now);
            (owed, since)
        });
        let due: Vec<(Owed, Instant)> = due.collect();
        let calls = stream::iter(&due);
        calls.for_each_concurrent(AT_ONCE, |(owed, since)| settle(&node, replica, owed, *since)).await;
    }
}

/// What this node is to do: its own, and as the leader that of nodes that are down.
fn due(node: &Node, replica: &Replica) -> Vec<Owed> {
    let (me, leads) = (node.id(), replica.is_leader());
    replica.read(|tables| {
        let mine = |holder: NodeId| holder == me || (leads && tables.live_epoch(holder).is_none());
        tables.owed().filter(|owed| mine(owed.node)).cloned().collect()
    })
}

/// What is to be done about a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A service offers it.
    Make,
    /// Nobody does, yet.
    Keep,
    /// Nobody has for long.
    Forget,
}

impl Next {
    fn of(has_provider: bool, waited: Duration) -> Next {
        match has_provider {
            true => Next::Make,
            false if waited > KEPT => Next::Forget,
            false => Next::Keep,
        }
    }
}

async fn settle(node: &Arc<Node>, replica: &Replica, owed: &Owed, since: Instant) {
    let facts = EdgeFacts { edge: owed.edge.0, meta: owed.meta.clone(), addr: owed.addr.to_string() };
    let done = match Next::of(callback::has_provider(node, EDGE_OFFLINE), since.elapsed()) {
        Next::Make => !matches!(callback::ask(node, EDGE_OFFLINE, &facts).await, Said::Nothing(_)),
        Next::Keep => false,
        Next::Forget => true,
    };
    if done {
        let event = Event::CallbackSettled { edge: owed.edge, incarnation: owed.incarnation };
        // Without a verdict the callback is made again: at least once.
        let _ = replica.proposer().submit(event).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_kept_for_a_minute_while_nobody_offers_it() {
        let minute = Duration::from_secs(60);
        assert_eq!(Next::of(false, Duration::ZERO), Next::Keep);
        assert_eq!(Next::of(false, minute), Next::Keep);
        assert_eq!(Next::of(false, minute + Duration::from_millis(1)), Next::Forget);
        assert_eq!(Next::of(true, minute * 2), Next::Make, "however late");
    }
}
