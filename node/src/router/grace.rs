//! The reconnect grace: a session that is expected to reconnect shortly is not reported as absent.
//!
//! A client of the reference does not open its next connection before its last one has ended: it dials three
//! seconds later, and again three seconds after that. So every caller waits for the sessions of a draining node
//! ([`Wait::planned`]). Only geminio callers, whose clients do not survive the error, also wait for the sessions of
//! a node that died.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use limes_routing::{EdgeId, NodeId};
use parking_lot::Mutex;

use crate::router::service_index::Offer;

/// How long a session is expected to reconnect: two attempts of a client of the reference, 3.1 s each, and a second.
pub(crate) const RETURN: Duration = Duration::from_millis(7_200);

/// The most that is expected at a time; beyond that, sessions that leave are absent at once.
const EXPECTED_MAX: usize = 65_536;

/// What is expected to reconnect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Absentee {
    /// An edge.
    Edge(EdgeId),
    /// Every session of a node.
    Node(NodeId),
    /// A service with this method, topic or name.
    Service(Offer),
}

/// How long a caller may wait for a session, and why the session has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// The end of the grace.
    pub(crate) until: Instant,
    /// Whether its node drained; otherwise its node has died.
    pub(crate) planned: bool,
}

/// All that is expected, [`EXPECTED_MAX`] at most. Entries whose grace is over are removed by the next
/// [`ReconnectGrace::expect`] or [`ReconnectGrace::wait`].
#[derive(Debug, Default)]
pub(crate) struct ReconnectGrace {
    /// Read on every miss; nearly always 0.
    count: AtomicUsize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    waits: HashMap<Absentee, Wait>,
    /// In the order in which the graces end.
    order: VecDeque<(Instant, Absentee)>,
}

impl ReconnectGrace {
    /// Expects an absentee from now on for [`RETURN`].
    pub(crate) fn expect(&self, absentee: Absentee, planned: bool, now: Instant) {
        let mut list = self.list.lock();
        list.sweep(now);
        if list.order.len() >= EXPECTED_MAX {
            return;
        }
        let until = now + RETURN;
        list.waits.insert(absentee.clone(), Wait { until, planned });
        list.order.push_back((until, absentee));
        self.count.store(list.waits.len(), Ordering::Release);
    }

    /// Expects an absentee no longer: it has reconnected.
    pub(crate) fn settle(&self, absentee: &Absentee) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut list = self.list.lock();
        list.waits.remove(absentee);
        self.count.store(list.waits.len(), Ordering::Release);
    }

    /// The wait for an absentee; `None`: it is not expected.
    pub(crate) fn wait(&self, absentee: impl FnOnce() -> Absentee, now: Instant) -> Option<Wait> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut list = self.list.lock();
        list.sweep(now);
        self.count.store(list.waits.len(), Ordering::Release);
        list.waits.get(&absentee()).copied()
    }
}

impl List {
    /// Removes the entries whose grace is over.
    fn sweep(&mut self, now: Instant) {
        while let Some((until, absentee)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            // It may have reconnected and left again later.
            if self.waits.get(&absentee).is_some_and(|wait| wait.until == until) {
                self.waits.remove(&absentee);
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
    fn edge_that_left_is_expected_until_its_grace_ends() {
        let (grace, now) = (ReconnectGrace::default(), Instant::now());
        assert_eq!(grace.wait(|| edge(1), now), None);
        grace.expect(edge(1), true, now);
        let later = now + RETURN / 2;
        grace.expect(edge(2), false, later);
        assert_eq!(grace.wait(|| edge(1), later), Some(Wait { until: now + RETURN, planned: true }));
        assert_eq!(grace.wait(|| edge(2), later), Some(Wait { until: later + RETURN, planned: false }));
        assert_eq!(grace.wait(|| edge(3), later), None);
        assert_eq!(grace.wait(|| edge(1), now + RETURN), None, "the grace is over");
        assert!(grace.wait(|| edge(2), now + RETURN).is_some());
        assert_eq!(grace.wait(|| edge(2), later + RETURN), None);
        assert_eq!(grace.count.load(Ordering::Acquire), 0, "no entry is kept");
    }

    #[test]
    fn edge_that_reconnected_is_expected_again_only_after_it_leaves_again() {
        let (grace, now) = (ReconnectGrace::default(), Instant::now());
        grace.expect(edge(1), true, now);
        grace.settle(&edge(1));
        assert_eq!(grace.wait(|| edge(1), now), None);
        let later = now + RETURN / 2;
        grace.expect(edge(1), true, later);
        // The end of the first grace does not end the second.
        assert!(grace.wait(|| edge(1), now + RETURN).is_some());
        assert_eq!(grace.wait(|| edge(1), later + RETURN), None);
    }
}
