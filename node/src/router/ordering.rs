//! Per-key ordering: messages of one sender and topic are delivered in order, also while one is being resolved.
//!
//! A message whose route is known is delivered at once, in the order in which its sender's task reads them. A
//! message that must be resolved (a miss, a redirect, a receiver that has just gone) could be overtaken by later
//! ones. So, while it is being resolved, later messages with the same key queue behind it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use limes_routing::EdgeId;
use parking_lot::Mutex;

use super::message::{Freshness, Kind, Recipient, Request};

/// What messages share that keep their order: the sender, the topic, and the edge if it is the recipient.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OrderKey {
    origin: u64,
    caller: u64,
    edge: Option<EdgeId>,
    topic: String,
}

impl OrderKey {
    /// The key of a request; `None` for calls, which have no order.
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

/// The queues of messages that wait: no more messages than senders may have in flight (`limits.calls` each).
#[derive(Debug, Default)]
pub(crate) struct KeyedOrder {
    /// Open queues; read for each message and nearly always 0.
    open: AtomicUsize,
    queues: Mutex<HashMap<OrderKey, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    requests: Vec<Request>,
    /// How new the tables must be.
    freshness: Option<Freshness>,
}

impl KeyedOrder {
    /// Queues a request if the queue of its key is open; returns it otherwise.
    pub(crate) fn behind(&self, request: Box<Request>) -> Option<Box<Request>> {
        if self.open.load(Ordering::Acquire) == 0 {
            return Some(request);
        }
        let Some(key) = OrderKey::of(&request) else { return Some(request) };
        match self.queues.lock().get_mut(&key) {
            Some(queue) => queue.add(request, Freshness::Barrier),
            None => return Some(request),
        }
        None
    }

    /// Queues a request under its key. Returns true if this opened the queue: then the caller must drain it with
    /// [`KeyedOrder::next`] until that returns no request.
    pub(crate) fn join(&self, key: OrderKey, request: Box<Request>, freshness: Freshness) -> bool {
        let mut queues = self.queues.lock();
        let is_new = !queues.contains_key(&key);
        if is_new {
            self.open.fetch_add(1, Ordering::Release);
        }
        queues.entry(key).or_default().add(request, freshness);
        is_new
    }

    /// Takes what is queued under a key, ordered by the sender's ascending numbers: a request that a receiver has
    /// returned may have been queued after later ones. No request: the queue is closed now.
    pub(crate) fn next(&self, key: &OrderKey) -> (Vec<Request>, Freshness) {
        let mut queues = self.queues.lock();
        let mut taken = queues.get_mut(key).map(std::mem::take).unwrap_or_default();
        if taken.requests.is_empty() && queues.remove(key).is_some() {
            self.open.fetch_sub(1, Ordering::Release);
        }
        taken.requests.sort_by_key(|request| request.id);
        (taken.requests, taken.freshness.unwrap_or(Freshness::Barrier))
    }
}

impl Queue {
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
    fn message_queues_only_behind_one_of_its_key() {
        let order = KeyedOrder::default();
        let ids = |all: (Vec<Request>, Freshness)| all.0.iter().map(|one| one.id).collect::<Vec<_>>();
        let first = message(1, "a", Kind::Message);
        let key = OrderKey::of(&first).unwrap();
        assert!(
            order.behind(message(9, "a", Kind::Message)).is_some(),
            "no message of the key is being resolved"
        );
        assert!(order.join(key.clone(), message(4, "a", Kind::Message), Freshness::AtLeast(Revision(7))));
        assert!(
            !order.join(key.clone(), message(3, "a", Kind::Message), Freshness::AtLeast(Revision(8))),
            "the queue has a task already"
        );
        assert!(order.behind(message(2, "b", Kind::Message)).is_some(), "another topic");
        assert!(order.behind(message(2, "a", Kind::Call)).is_some(), "calls have no order");
        let all = order.next(&key);
        assert_eq!((ids(all), order.behind(message(5, "a", Kind::Message)).is_none()), (vec![3, 4], true));
        assert_eq!(ids(order.next(&key)), [5], "the queue stays open until it is found empty");
        assert!(order.next(&key).0.is_empty());
        assert!(order.behind(first).is_some(), "the queue is closed");
    }

    #[test]
    fn queue_takes_the_strictest_freshness_of_its_messages() {
        let order = KeyedOrder::default();
        let key = OrderKey::of(&message(1, "a", Kind::Message)).unwrap();
        let at_least = |revision| Freshness::AtLeast(Revision(revision));
        let next = |freshness: &[Freshness]| {
            for freshness in freshness {
                order.join(key.clone(), message(1, "a", Kind::Message), *freshness);
            }
            order.next(&key).1
        };
        assert_eq!(next(&[at_least(7), at_least(9), at_least(8)]), at_least(9));
        assert_eq!(next(&[at_least(7), Freshness::Barrier, at_least(8)]), Freshness::Barrier);
        assert_eq!(next(&[Freshness::Barrier, at_least(8)]), Freshness::Barrier);
    }
}
