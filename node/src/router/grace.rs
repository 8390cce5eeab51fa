//! SessionOwner is expected back shortly, so that a miss is not told before it has had its time to come.
//!
//! A client of the reference cannot open its next connection before its last one has ended: it dials three
//! seconds later, and tries again three seconds after that. So whoever leaves a node that stops in order is
//! waited for by everybody ([`Wait::planned`]), and who was on a node that died by callers of the same
//! dialect, whose clients do not survive the error.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use limes_routing::{EdgeId, NodeId};
use parking_lot::{Mutex, MutexGuard};

use crate::router::service_index::Offer;

/// How long somebody is expected: two tries of a client of the reference, 3.1 s each, and a second more.
pub(crate) const RETURN: Duration = Duration::from_millis(7_200);

/// So many are expected; the next who leave are missed at once.
const AWAITED_MAX: usize = 65_536;

/// SessionOwner is expected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Absentee {
    /// An edge.
    Edge(EdgeId),
    /// All that was on a node.
    Node(NodeId),
    /// Somebody with this method, topic or name.
    Service(Offer),
}

/// For how long, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Until then.
    pub(crate) until: Instant,
    /// It was sent away; else its node has died.
    pub(crate) planned: bool,
}

/// All that are expected, [`AWAITED_MAX`] at most; those whose time is over go when somebody asks, or leaves.
#[derive(Debug, Default)]
pub(crate) struct ReconnectGrace {
    /// Asked for on every miss; nearly always 0.
    some: AtomicUsize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    waits: HashMap<Absentee, Wait>,
    /// In the order in which they end.
    order: VecDeque<(Instant, Absentee)>,
}

impl ReconnectGrace {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock()
    }

    /// Somebody has left, and is expected from now on.
    pub(crate) fn expect(&self, whom: Absentee, planned: bool, now: Instant) {
        let mut list = self.list();
        list.sweep(now);
        if list.order.len() >= AWAITED_MAX {
            return;
        }
        let until = now + RETURN;
        list.waits.insert(whom.clone(), Wait { until, planned });
        list.order.push_back((until, whom));
        self.some.store(list.waits.len(), Ordering::Release);
    }

    /// It is back, or it is known that it does not come.
    pub(crate) fn settle(&self, whom: &Absentee) {
        if self.some.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut list = self.list();
        list.waits.remove(whom);
        self.some.store(list.waits.len(), Ordering::Release);
    }

    /// The wait for somebody who has not come yet.
    pub(crate) fn wait(&self, whom: impl FnOnce() -> Absentee, now: Instant) -> Option<Wait> {
        if self.some.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut list = self.list();
        list.sweep(now);
        self.some.store(list.waits.len(), Ordering::Release);
        list.waits.get(&whom()).copied()
    }
}

impl List {
    /// Forgets whoever did not come in time.
    fn sweep(&mut self, now: Instant) {
        while let Some((until, whom)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            // It may have come, and gone again later.
            if self.waits.get(&whom).is_some_and(|wait| wait.until == until) {
                self.waits.remove(&whom);
            }
        }
        if self.order.is_empty() {
            (self.waits, self.order) = Default::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(id: u64) -> Absentee {
        Absentee::Edge(EdgeId(id))
    }

    #[test]
    fn whoever_left_is_expected_for_a_while() {
        let (awaited, now) = (ReconnectGrace::default(), Instant::now());
        assert_eq!(awaited.wait(|| edge(1), now), None);
        awaited.expect(edge(1), true, now);
        let later = now + RETURN / 2;
        awaited.expect(edge(2), false, later);
        assert_eq!(awaited.wait(|| edge(1), later), Some(Wait { until: now + RETURN, planned: true }));
        assert_eq!(awaited.wait(|| edge(2), later), Some(Wait { until: later + RETURN, planned: false }));
        assert_eq!(awaited.wait(|| edge(3), later), None);
        assert_eq!(awaited.wait(|| edge(1), now + RETURN), None, "no longer");
        assert!(awaited.wait(|| edge(2), now + RETURN).is_some());
        assert_eq!(awaited.wait(|| edge(2), later + RETURN), None);
        assert_eq!(awaited.some.load(Ordering::Acquire), 0, "nothing is kept");
    }

    #[test]
    fn whoever_is_back_is_not_expected_and_may_leave_again() {
        let (awaited, now) = (ReconnectGrace::default(), Instant::now());
        awaited.expect(edge(1), true, now);
        awaited.settle(&edge(1));
        assert_eq!(awaited.wait(|| edge(1), now), None);
        let later = now + RETURN / 2;
        awaited.expect(edge(1), true, later);
        // The first wait's end does not end the second.
        assert!(awaited.wait(|| edge(1), now + RETURN).is_some());
        assert_eq!(awaited.wait(|| edge(1), later + RETURN), None);
    }
}
