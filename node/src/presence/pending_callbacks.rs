//! Callbacks that are due because an edge has gone: made by the node that held it, or by the leader
//! when that node is down; at least once each.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use limes_raft::Replica;
use limes_routing::{EdgeId, Event, Incarnation, NodeId, Owed};
use limes_wire::callback::{EDGE_OFFLINE, EdgeFacts};
use limes_wire::frame::Execution;
use tokio::time::timeout;

use super::callbacks::{self, CallbackOutcome};
use super::context::Presence;

/// How often what is owed is looked at when nothing new is due.
const TICK: Duration = Duration::from_secs(1);
/// How long a callback is kept while no service offers it.
const KEPT: Duration = Duration::from_secs(60);
/// How long a service may take to answer: no edge waits for it.
const TIME: Duration = Duration::from_secs(30);
/// Callbacks of this node under way at once, and so the most that one service has to bear from it.
const AT_ONCE: usize = 64;

type Key = (EdgeId, Incarnation);

/// Makes callbacks for as long as the node runs.
pub(super) async fn run(presence: Arc<Presence>) {
    let mut due = Due::default();
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ = timeout(TICK, presence.callback_due.notified()) => due.look(&presence),
            Some((key, done)) = calls.next(), if !calls.is_empty() => {
                due.ended(key, done);
                if due.more && due.queue.is_empty() {
                    due.look(&presence);
                }
            }
        }
        while calls.len() < AT_ONCE {
            let Some((owed, next, since)) = due.queue.pop_front() else { break };
            let (presence, key) = (presence.clone(), (owed.edge, owed.incarnation));
            due.under_way.insert(key);
            calls.push(async move { (key, settle(&presence, &owed, next, since).await) });
        }
    }
}

/// What is owed, and what comes of it.
#[derive(Debug, Default)]
struct Due {
    first_seen: HashMap<Key, Instant>,
    under_way: HashSet<Key>,
    /// What has been tried in vain, and when it may be tried again.
    again: HashMap<Key, Instant>,
    /// What to do next, with the time since which it is owed.
    queue: VecDeque<(Owed, Next, Instant)>,
    /// Something has become due while others wait.
    more: bool,
    /// When a service last offered the callback.
    offered: Option<Instant>,
    looked: Option<Instant>,
}

impl Due {
    fn look(&mut self, presence: &Presence) {
        let Some(replica) = presence.consensus.replica() else { return };
        let has_provider = callbacks::has_provider(presence, EDGE_OFFLINE);
        let now = Instant::now();
        // While some wait, or there is nobody to tell, each new end is no reason to go through all of them.
        let lately = self.looked.is_some_and(|looked| now - looked < TICK);
        self.more = lately && has_provider && !self.queue.is_empty();
        if self.more || (lately && !has_provider) {
            return;
        }
        self.looked = Some(now);
        self.take(due(presence, replica), has_provider, now);
    }

    fn take(&mut self, due: Vec<Owed>, has_provider: bool, now: Instant) {
        let keys: HashSet<Key> = due.iter().map(|owed| (owed.edge, owed.incarnation)).collect();
        self.first_seen.retain(|key, _| keys.contains(key));
        self.again.retain(|key, at| *at > now && keys.contains(key));
        if has_provider {
            self.offered = Some(now);
        }
        self.queue.clear();
        for owed in due {
            let key = (owed.edge, owed.incarnation);
            let since = *self.first_seen.entry(key).or_insert(now);
            let next = Next::of(has_provider, now - self.offered.map_or(since, |last| since.max(last)));
            let waits = self.under_way.contains(&key) || self.again.contains_key(&key);
            if next != Next::Keep && !waits {
                self.queue.push_back((owed, next, since));
            }
        }
    }

    fn ended(&mut self, key: Key, done: bool) {
        self.under_way.remove(&key);
        if !done {
            self.again.insert(key, Instant::now() + TICK);
        }
    }
}

/// What this node is to do: its own, and as the leader that of nodes that are down.
fn due(presence: &Presence, replica: &Replica) -> Vec<Owed> {
    let leads = replica.is_leader();
    replica.read(|tables| {
        let mine = |holder: NodeId| {
            presence.consensus.is_self(holder) || (leads && tables.live_epoch(holder).is_none())
        };
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
    /// Nobody has for long, nor since it is owed.
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

/// Says whether it is settled.
async fn settle(presence: &Arc<Presence>, owed: &Owed, next: Next, since: Instant) -> bool {
    let facts = EdgeFacts { edge: owed.edge.0, meta: owed.meta.clone(), addr: owed.addr.to_string() };
    let done = match next {
        Next::Make => match callbacks::ask(presence, EDGE_OFFLINE, &facts, TIME).await {
            CallbackOutcome::Accepted(_) | CallbackOutcome::Refused(_) => true,
            // A service that never answers has had it by then, more than once.
            CallbackOutcome::Unanswered(failure) => {
                failure.ran == Execution::Unknown && since.elapsed() > KEPT
            }
        },
        Next::Keep => false,
        Next::Forget => true,
    };
    let Some(replica) = presence.consensus.replica().filter(|_| done) else { return false };
    let event = Event::CallbackSettled { edge: owed.edge, incarnation: owed.incarnation };
    // Without a verdict the callback is made again: at least once.
    replica.proposer().submit(event).await.is_ok()
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

    fn owed(edge: u64) -> Owed {
        let (meta, addr) = (bytes::Bytes::new(), "".into());
        Owed { edge: EdgeId(edge), incarnation: Incarnation::default(), node: NodeId(1), meta, addr }
    }

    #[test]
    fn a_minute_without_a_service_begins_when_the_last_one_has_gone() {
        let (mut due, start) = (Due::default(), Instant::now());
        let after = |s: u64| start + Duration::from_secs(s);
        due.take(vec![owed(1)], true, start);
        assert_eq!(due.queue.pop_front().map(|(_, next, _)| next), Some(Next::Make));
        // It is slow, or hangs, and is restarted two minutes later.
        due.take(vec![owed(1), owed(2)], true, after(120));
        due.take(vec![owed(1), owed(2)], false, after(121));
        assert!(due.queue.is_empty(), "kept: {:?}", due.queue);
        due.take(vec![owed(1), owed(2)], true, after(122));
        assert_eq!(due.queue.len(), 2);
        due.take(vec![owed(1), owed(2)], false, after(183));
        assert!(due.queue.iter().all(|(_, next, _)| *next == Next::Forget) && due.queue.len() == 2);
    }

    #[test]
    fn what_is_under_way_is_not_made_twice_and_what_failed_waits_a_little() {
        let (mut due, start) = (Due::default(), Instant::now());
        let key = (EdgeId(1), Incarnation::default());
        due.under_way.insert(key);
        due.take(vec![owed(1)], true, start);
        assert!(due.queue.is_empty());
        due.ended(key, false);
        due.take(vec![owed(1)], true, start);
        assert!(due.queue.is_empty());
        due.take(vec![owed(1)], true, Instant::now() + TICK * 2);
        assert_eq!(due.queue.len(), 1);
    }
}
