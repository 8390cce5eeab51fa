//! Makes the `edge_offline` callbacks that are pending because an edge has gone: each at least once, by the node
//! that held the edge, or by the leader while that node is down.

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

/// How often the pending callbacks are read when no new one is due.
const TICK: Duration = Duration::from_secs(1);
/// How long a callback is kept while no service offers it.
const RETENTION: Duration = Duration::from_secs(60);
/// How long a service may take to answer: no edge waits for it.
const TIME: Duration = Duration::from_secs(30);
/// Callbacks that this node has under way at once, and so the most that one service receives from it.
const CONCURRENCY: usize = 64;

type Key = (EdgeId, Incarnation);

/// Makes callbacks for as long as the node runs.
pub(super) async fn run(presence: Arc<Presence>, replica: Replica) {
    let mut due = CallbackQueue::default();
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ = timeout(TICK, presence.callback_due.notified()) => due.refresh(&presence, &replica),
            Some((key, done)) = calls.next(), if !calls.is_empty() => {
                due.ended(key, done);
                if due.has_more && due.queue.is_empty() {
                    due.refresh(&presence, &replica);
                }
            }
        }
        while calls.len() < CONCURRENCY {
            let Some((pending, action, since)) = due.queue.pop_front() else { break };
            let (presence, replica) = (presence.clone(), replica.clone());
            let key = (pending.edge, pending.incarnation);
            due.under_way.insert(key);
            calls.push(async move { (key, settle(&presence, &replica, &pending, action, since).await) });
        }
    }
}

/// The pending callbacks and what to do about each.
#[derive(Debug, Default)]
struct CallbackQueue {
    first_seen: HashMap<Key, Instant>,
    under_way: HashSet<Key>,
    /// Callbacks that have failed, and when each may be made again.
    retry_at: HashMap<Key, Instant>,
    /// What to do next, and since when each callback has been pending.
    queue: VecDeque<(Owed, Action, Instant)>,
    /// A callback has become due while others wait.
    has_more: bool,
    /// When a service last offered the callback.
    last_offered: Option<Instant>,
    last_refresh: Option<Instant>,
}

impl CallbackQueue {
    fn refresh(&mut self, presence: &Presence, replica: &Replica) {
        let has_provider = callbacks::has_provider(presence, EDGE_OFFLINE);
        let now = Instant::now();
        // While callbacks wait, or no service offers them, a new one is no reason to read all of them again.
        let lately = self.last_refresh.is_some_and(|last| now - last < TICK);
        self.has_more = lately && has_provider && !self.queue.is_empty();
        if self.has_more || (lately && !has_provider) {
            return;
        }
        self.last_refresh = Some(now);
        self.take(due(presence, replica), has_provider, now);
    }

    fn take(&mut self, due: Vec<Owed>, has_provider: bool, now: Instant) {
        let keys: HashSet<Key> = due.iter().map(|pending| (pending.edge, pending.incarnation)).collect();
        self.first_seen.retain(|key, _| keys.contains(key));
        self.retry_at.retain(|key, at| *at > now && keys.contains(key));
        if has_provider {
            self.last_offered = Some(now);
        }
        self.queue.clear();
        for pending in due {
            let key = (pending.edge, pending.incarnation);
            let since = *self.first_seen.entry(key).or_insert(now);
            let unoffered = now - self.last_offered.map_or(since, |last| since.max(last));
            let action = Action::of(has_provider, unoffered);
            let waits = self.under_way.contains(&key) || self.retry_at.contains_key(&key);
            if action != Action::Keep && !waits {
                self.queue.push_back((pending, action, since));
            }
        }
    }

    fn ended(&mut self, key: Key, done: bool) {
        self.under_way.remove(&key);
        if !done {
            self.retry_at.insert(key, Instant::now() + TICK);
        }
    }
}

/// The callbacks that this node has to make: its own, and as the leader those of nodes that are down.
fn due(presence: &Presence, replica: &Replica) -> Vec<Owed> {
    let leads = replica.is_leader();
    replica.read(|tables| {
        let mine = |holder: NodeId| {
            presence.consensus.is_self(holder) || (leads && tables.live_epoch(holder).is_none())
        };
        tables.owed().filter(|pending| mine(pending.node)).cloned().collect()
    })
}

/// What to do about a pending callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Make it: a service offers it.
    Make,
    /// Keep it: no service offers it yet.
    Keep,
    /// Forget it: no service has offered it for [`RETENTION`] while it was pending.
    Forget,
}

impl Action {
    fn of(has_provider: bool, waited: Duration) -> Action {
        match has_provider {
            true => Action::Make,
            false if waited > RETENTION => Action::Forget,
            false => Action::Keep,
        }
    }
}

/// Makes or forgets a callback; returns whether it is settled.
async fn settle(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &Owed,
    action: Action,
    since: Instant,
) -> bool {
    let (meta, addr) = (pending.meta.clone(), pending.addr.to_string());
    let facts = EdgeFacts { edge: pending.edge.0, meta, addr };
    let done = match action {
        Action::Make => match callbacks::ask(presence, EDGE_OFFLINE, &facts, TIME).await {
            CallbackOutcome::Accepted(_) | CallbackOutcome::Refused(_) => true,
            // After that time a service that never answers has received it more than once.
            CallbackOutcome::Unanswered(failure) => {
                failure.ran == Execution::Unknown && since.elapsed() > RETENTION
            }
        },
        Action::Keep => false,
        Action::Forget => true,
    };
    if !done {
        return false;
    }
    let event = Event::CallbackSettled { edge: pending.edge, incarnation: pending.incarnation };
    // Without a verdict the callback is made again: at least once.
    replica.proposer().submit(event).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callback_is_kept_for_a_minute_while_no_service_offers_it() {
        let minute = Duration::from_secs(60);
        assert_eq!(Action::of(false, Duration::ZERO), Action::Keep);
        assert_eq!(Action::of(false, minute), Action::Keep);
        assert_eq!(Action::of(false, minute + Duration::from_millis(1)), Action::Forget);
        assert_eq!(Action::of(true, minute * 2), Action::Make, "also after a long time");
    }

    fn pending(edge: u64) -> Owed {
        let (meta, addr) = (bytes::Bytes::new(), "".into());
        Owed { edge: EdgeId(edge), incarnation: Incarnation::default(), node: NodeId(1), meta, addr }
    }

    #[test]
    fn retention_begins_when_the_last_service_has_gone() {
        let (mut due, start) = (CallbackQueue::default(), Instant::now());
        let after = |s: u64| start + Duration::from_secs(s);
        due.take(vec![pending(1)], true, start);
        assert_eq!(due.queue.pop_front().map(|(_, action, _)| action), Some(Action::Make));
        // The service is slow or hangs, and is restarted two minutes later.
        due.take(vec![pending(1), pending(2)], true, after(120));
        due.take(vec![pending(1), pending(2)], false, after(121));
        assert!(due.queue.is_empty(), "kept: {:?}", due.queue);
        due.take(vec![pending(1), pending(2)], true, after(122));
        assert_eq!(due.queue.len(), 2);
        due.take(vec![pending(1), pending(2)], false, after(183));
        assert!(due.queue.iter().all(|(_, action, _)| *action == Action::Forget) && due.queue.len() == 2);
    }

    #[test]
    fn callback_under_way_is_not_made_again_and_a_failed_one_waits() {
        let (mut due, start) = (CallbackQueue::default(), Instant::now());
        let key = (EdgeId(1), Incarnation::default());
        due.under_way.insert(key);
        due.take(vec![pending(1)], true, start);
        assert!(due.queue.is_empty());
        due.ended(key, false);
        due.take(vec![pending(1)], true, start);
        assert!(due.queue.is_empty());
        due.take(vec![pending(1)], true, Instant::now() + TICK * 2);
        assert_eq!(due.queue.len(), 1);
    }
}
