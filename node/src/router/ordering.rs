//! Messages that look for their way, those of one sender and topic one behind the other.
//!
//! A message whose way is known is handed over at once, in the order in which its sender's task reads them.
//! One that must look (a miss, a redirect, a receiver that has just gone) would be overtaken by the next,
//! or by another that looks too: so, while one looks, later ones of that sender and topic wait behind it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use limes_routing::{EdgeId, Revision};

use crate::router::message::{Kind, Request, Target};

/// What shares an order: a sender, and a topic or the edge that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    origin: u64,
    caller: u64,
    edge: EdgeId,
    topic: String,
}

impl Lane {
    /// The lane of a request; calls have no order.
    pub(crate) fn of(request: &Request) -> Option<Lane> {
        let edge = match request.target {
            Target::Edge(edge, _) => edge,
            Target::Service(..) => EdgeId(0),
        };
        let (origin, caller) = (request.origin.no(), request.caller);
        (request.kind == Kind::Message).then(|| Lane {
            origin,
            caller,
            edge,
            topic: request.name.as_str().to_owned(),
        })
    }
}

/// Messages that wait, no more than senders may have in flight (`limits.calls` each).
#[derive(Debug, Default)]
pub(crate) struct KeyedOrder {
    /// Asked for each message; nearly always 0.
    open: AtomicUsize,
    waiting: Mutex<HashMap<Lane, Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: Vec<Request>,
    /// What the tables here must have come to; 0: a barrier.
    revision: Revision,
}

impl KeyedOrder {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Lane, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request if others of its lane look for their way; else it comes back.
    pub(crate) fn behind(&self, request: Box<Request>) -> Option<Box<Request>> {
        if self.open.load(Ordering::Acquire) == 0 {
            return Some(request);
        }
        let Some(lane) = Lane::of(&request) else { return Some(request) };
        match self.waiting().get_mut(&lane) {
            Some(waiting) => waiting.add(request, Revision(0)),
            None => return Some(request),
        }
        None
    }

    /// Puts a request into its lane. True: the lane was not open, and whoever asks has to empty it
    /// with [`KeyedOrder::next`] until that gives nothing.
    pub(crate) fn join(&self, lane: Lane, request: Box<Request>, revision: Revision) -> bool {
        let mut all = self.waiting();
        let is_new = !all.contains_key(&lane);
        if is_new {
            self.open.fetch_add(1, Ordering::Release);
        }
        all.entry(lane).or_default().add(request, revision);
        is_new
    }

    /// What waits now, by the sender's numbers, which rise: what came back from a receiver that has gone
    /// may have come here later. Nothing: the lane is closed.
    pub(crate) fn next(&self, lane: &Lane) -> (Vec<Request>, Revision) {
        let mut all = self.waiting();
        let mut taken = all.get_mut(lane).map(std::mem::take).unwrap_or_default();
        if taken.requests.is_empty() && all.remove(lane).is_some() {
            self.open.fetch_sub(1, Ordering::Release);
        }
        taken.requests.sort_by_key(|request| request.id);
        (taken.requests, taken.revision)
    }
}

impl Waiting {
    /// A barrier is as good as any revision.
    fn add(&mut self, request: Box<Request>, revision: Revision) {
        let any_barrier = !self.requests.is_empty() && self.revision == Revision(0);
        self.revision =
            if any_barrier || revision == Revision(0) { Revision(0) } else { self.revision.max(revision) };
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
    use crate::router::message::Origin;

    fn message(id: u64, topic: &'static str, kind: Kind) -> Box<Request> {
        Box::new(Request {
            kind,
            origin: Origin::Node(mpsc::unbounded_channel().0),
            id,
            target: Target::any_service(),
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
        let ids = |all: (Vec<Request>, Revision)| all.0.iter().map(|one| one.id).collect::<Vec<_>>();
        let first = message(1, "a", Kind::Message);
        let lane = Lane::of(&first).unwrap();
        assert!(lanes.behind(message(9, "a", Kind::Message)).is_some(), "nobody looks yet");
        assert!(lanes.join(lane.clone(), message(4, "a", Kind::Message), Revision(7)));
        assert!(!lanes.join(lane.clone(), message(3, "a", Kind::Message), Revision(8)), "one walks the lane");
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
        let lane = Lane::of(&message(1, "a", Kind::Message)).unwrap();
        let next = |revisions: &[u64]| {
            for revision in revisions {
                lanes.join(lane.clone(), message(1, "a", Kind::Message), Revision(*revision));
            }
            lanes.next(&lane).1
        };
        assert_eq!(next(&[7, 9, 8]), Revision(9));
        assert_eq!(next(&[7, 0, 8]), Revision(0));
        assert_eq!(next(&[0, 8]), Revision(0));
    }
}
