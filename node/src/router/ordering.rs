//! Messages that look for their way, those of one sender and topic one behind the other.
//!
//! A message whose way is known is handed over at once, in the order in which its sender's task reads them.
//! One that must look (a miss, a redirect, a receiver that has just gone) would be overtaken by the next,
//! or by another that looks too: so, while one looks, later ones of that sender and topic wait behind it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use limes_routing::EdgeId;
use parking_lot::{Mutex, MutexGuard};

use super::message::{Freshness, Kind, Recipient, Request};

/// What shares an order: a sender, and a topic or the edge that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OrderKey {
    origin: u64,
    caller: u64,
    edge: Option<EdgeId>,
    topic: String,
}

impl OrderKey {
    /// The lane of a request; calls have no order.
    pub(crate) fn of(request: &Request) -> Option<OrderKey> {
        let edge = match request.to.recipient() {
            Recipient::Edge(edge) => Some(edge),
            Recipient::Service => None,
        };
        let (origin, caller) = (request.origin.no(), request.caller);
        (request.kind == Kind::Message).then(|| OrderKey {
            origin,
            caller,
            edge,
            topic: request.name.to_string(),
        })
    }
}

/// Messages that wait, no more than senders may have in flight (`limits.calls` each).
#[derive(Debug, Default)]
pub(crate) struct KeyedOrder {
    /// Asked for each message; nearly always 0.
    open: AtomicUsize,
    waiting: Mutex<HashMap<OrderKey, Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: Vec<Request>,
    /// How new the tables must be.
    freshness: Option<Freshness>,
}

impl KeyedOrder {
    fn waiting(&self) -> MutexGuard<'_, HashMap<OrderKey, Waiting>> {
        self.waiting.lock()
    }

    /// Takes a request if others of its lane look for their way; else it comes back.
    pub(crate) fn behind(&self, request: Box<Request>) -> Option<Box<Request>> {
        if self.open.load(Ordering::Acquire) == 0 {
            return Some(request);
        }
        let Some(lane) = OrderKey::of(&request) else { return Some(request) };
        match self.waiting().get_mut(&lane) {
            Some(waiting) => waiting.add(request, Freshness::Barrier),
            None => return Some(request),
        }
        None
    }

    /// Puts a request into its lane. True: the lane was not open, and whoever asks has to empty it
    /// with [`KeyedOrder::next`] until that gives nothing.
    pub(crate) fn join(&self, lane: OrderKey, request: Box<Request>, freshness: Freshness) -> bool {
        let mut all = self.waiting();
        let is_new = !all.contains_key(&lane);
        if is_new {
            self.open.fetch_add(1, Ordering::Release);
        }
        all.entry(lane).or_default().add(request, freshness);
        is_new
    }

    /// What waits now, by the sender's numbers, which rise: what came back from a receiver that has gone
    /// may have come here later. Nothing: the lane is closed.
    pub(crate) fn next(&self, lane: &OrderKey) -> (Vec<Request>, Freshness) {
        let mut all = self.waiting();
        let mut taken = all.get_mut(lane).map(std::mem::take).unwrap_or_default();
        if taken.requests.is_empty() && all.remove(lane).is_some() {
            self.open.fetch_sub(1, Ordering::Release);
        }
        taken.requests.sort_by_key(|request| request.id);
        (taken.requests, taken.freshness.unwrap_or(Freshness::Barrier))
    }
}

impl Waiting {
    fn add(&mut self, request: Box<Request>, freshness: Freshness) {
        self.freshness = Some(self.freshness.map_or(freshness, |known| known.max(freshness)));
        self.requests.push(*request);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use limes_wire::Str;
    use tokio::sync::mpsc;

    use super::*;
    use limes_routing::Revision;

    use super::super::message::{Address, Origin};

    fn message(id: u64, topic: &'static str, kind: Kind) -> Box<Request> {
        Box::new(Request {
            kind,
            origin: Origin::Node(mpsc::unbounded_channel().0),
            id,
            to: Address::service(),
            caller: 5,
            key: 5,
            deadline: Instant::now(),
            name: Str::from_static(topic),
            custom: Bytes::new(),
            body: Bytes::new(),
            patient: false,
            tried: None,
        })
    }

    #[test]
    fn who_comes_while_one_looks_waits_behind_it_and_nobody_else() {
        let lanes = KeyedOrder::default();
        let ids = |all: (Vec<Request>, Freshness)| all.0.iter().map(|one| one.id).collect::<Vec<_>>();
        let first = message(1, "a", Kind::Message);
        let lane = OrderKey::of(&first).unwrap();
        assert!(lanes.behind(message(9, "a", Kind::Message)).is_some(), "nobody looks yet");
        assert!(lanes.join(lane.clone(), message(4, "a", Kind::Message), Freshness::AtLeast(Revision(7))));
        assert!(
            !lanes.join(lane.clone(), message(3, "a", Kind::Message), Freshness::AtLeast(Revision(8))),
            "one walks the lane"
        );
        assert!(lanes.behind(message(2, "b", Kind::Message)).is_some(), "another topic");
        assert!(lanes.behind(message(2, "a", Kind::Call)).is_some(), "calls have no order");
        let all = lanes.next(&lane);
        assert_eq!((ids(all), lanes.behind(message(5, "a", Kind::Message)).is_none()), (vec![3, 4], true));
        assert_eq!(ids(lanes.next(&lane)), [5], "it stays open until it is found empty");
        assert!(lanes.next(&lane).0.is_empty());
        assert!(lanes.behind(first).is_some(), "closed");
    }

    #[test]
    fn one_that_wants_a_barrier_gets_it_for_all() {
        let lanes = KeyedOrder::default();
        let lane = OrderKey::of(&message(1, "a", Kind::Message)).unwrap();
        let at_least = |revision| Freshness::AtLeast(Revision(revision));
        let next = |freshness: &[Freshness]| {
            for freshness in freshness {
                lanes.join(lane.clone(), message(1, "a", Kind::Message), *freshness);
            }
            lanes.next(&lane).1
        };
        assert_eq!(next(&[at_least(7), at_least(9), at_least(8)]), at_least(9));
        assert_eq!(next(&[at_least(7), Freshness::Barrier, at_least(8)]), Freshness::Barrier);
        assert_eq!(next(&[Freshness::Barrier, at_least(8)]), Freshness::Barrier);
    }
}
