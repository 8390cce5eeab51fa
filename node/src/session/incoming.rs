//! Requests of other tasks that the session's peer has not answered yet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

use limes_wire::Code;

use crate::router::message::{Answer, Failure, Key, Kind, Origin, Request};

/// One request that the peer holds.
#[derive(Debug)]
pub(crate) struct Held {
    /// Reply or acknowledgement.
    pub(crate) kind: Kind,
    origin: Origin,
    id: u64,
    caller: u64,
}

/// Requests that the peer holds, by the id that they have on its wire. Owned by the session's task.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    last: u64,
    held: HashMap<u64, Held>,
    by_key: HashMap<Key, u64>,
    /// How many requests of each caller the peer holds.
    callers: HashMap<u64, usize>,
}

impl Incoming {
    /// Whether the peer holds no request.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a caller may have one more request here, where each caller may send `calls` at once. There is room for twice
    /// as many, and a caller may hold at most what is left (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998): a
    /// single caller may use its whole allowance, and none can exhaust the room.
    fn has_room(&self, caller: u64, calls: usize) -> bool {
        let left = calls.saturating_mul(2).saturating_sub(self.held.len());
        self.callers.get(&caller).copied().unwrap_or(0) < left
    }

    /// Adds a request that is to be written to the peer now, and returns the id to use on the wire.
    ///
    /// # Errors
    /// The deadline has passed, or the caller has too many requests here.
    pub(crate) fn admit(&mut self, request: &Request, now: Instant, calls: usize) -> Result<u64, Failure> {
        if request.remaining(now).is_zero() {
            return Err(Failure::not_run(Code::TIMEOUT, "the deadline passed before delivery"));
        }
        if !self.has_room(request.caller, calls) {
            // PROTOCOL 9.2.
            let text = "the receiver has too many calls in flight, or too many of this caller (limits.calls)";
            return Err(Failure::not_run(Code::BUSY, text));
        }
        Ok(self.insert(request))
    }

    fn insert(&mut self, request: &Request) -> u64 {
        self.last += 1;
        let key = request.key();
        let Request { kind, id, caller, .. } = *request;
        *self.callers.entry(caller).or_default() += 1;
        let held = Held { kind, origin: request.origin.clone(), id, caller };
        self.held.insert(self.last, held);
        self.by_key.insert(key, self.last);
        self.last
    }

    /// Forwards the peer's answer to the origin. False: the peer holds no request of that kind under the id, which happens
    /// when the answer crosses a cancel.
    pub(crate) fn answer(&mut self, wire_id: u64, kind: Kind, answer: Answer) -> bool {
        if self.held.get(&wire_id).is_none_or(|held| held.kind != kind) {
            return false;
        }
        let Some(held) = self.take(wire_id) else { return false };
        self.by_key.remove(&Key { origin: held.origin.no(), id: held.id });
        held.origin.answer(held.id, answer);
        true
    }

    /// Forwards a failure of a request of either kind to the origin.
    pub(crate) fn fail(&mut self, wire_id: u64, failure: Failure) {
        if let Some(kind) = self.held.get(&wire_id).map(|held| held.kind) {
            self.answer(wire_id, kind, Answer::Failed(failure));
        }
    }

    /// Removes a request whose origin no longer waits, and confirms it to the origin. Returns the wire id and the kind.
    pub(crate) fn cancel(&mut self, key: Key) -> Option<(u64, Kind)> {
        let wire_id = self.by_key.remove(&key)?;
        let held = self.take(wire_id)?;
        let failure = Failure::may_have_run(Code::CANCELLED, "its caller does not wait any more");
        held.origin.answer(held.id, Answer::Failed(failure));
        Some((wire_id, held.kind))
    }

    fn take(&mut self, wire_id: u64) -> Option<Held> {
        let held = self.held.remove(&wire_id)?;
        if let Entry::Occupied(mut of_caller) = self.callers.entry(held.caller) {
            *of_caller.get_mut() -= 1;
            if *of_caller.get() == 0 {
                of_caller.remove();
            }
        }
        Some(held)
    }

    /// Fails all requests, because the peer is gone.
    pub(crate) fn fail_all(&mut self, failure: &Failure) {
        self.by_key.clear();
        self.callers.clear();
        for (_, held) in self.held.drain() {
            held.origin.answer(held.id, Answer::Failed(failure.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use limes_wire::Str;
    use tokio::sync::mpsc;

    use super::*;
    use crate::router::message::{Address, RequestEvent};

    fn request(id: u64, origin: Origin) -> Request {
        Request {
            kind: Kind::Call,
            origin,
            id,
            to: Address::service(),
            caller: 5,
            key: 5,
            deadline: Instant::now(),
            name: Str::from_static("echo"),
            custom: Bytes::new(),
            body: Bytes::new(),
            patient: false,
            tried: None,
        }
    }

    #[test]
    fn each_request_is_answered_exactly_once() {
        let (sender, mut answers) = mpsc::unbounded_channel();
        let mut incoming = Incoming::default();
        let wire_id = incoming.insert(&request(41, Origin::Node(sender)));
        assert!(
            !incoming.answer(wire_id, Kind::Message, Answer::Done),
            "an acknowledgement does not answer a call"
        );
        assert!(incoming.answer(wire_id, Kind::Call, Answer::Reply(Bytes::from_static(b"x"))));
        assert!(!incoming.answer(wire_id, Kind::Call, Answer::Reply(Bytes::new())));
        incoming.fail_all(&Failure::may_have_run(Code::GONE, "gone"));
        assert!(matches!(answers.try_recv(), Ok(RequestEvent::Answer(Answer::Reply(_)))));
        assert!(answers.try_recv().is_err());
    }

    #[test]
    fn busy_callers_leave_room_for_others() {
        let (sender, _answers) = mpsc::unbounded_channel();
        let mut incoming = Incoming::default();
        let fill = |caller: u64, incoming: &mut Incoming| {
            let mut wire_ids = Vec::new();
            while incoming.has_room(caller, 1_000) {
                let id = caller * 10_000 + wire_ids.len() as u64;
                let request = Request { caller, ..request(id, Origin::Node(sender.clone())) };
                wire_ids.push(incoming.insert(&request));
            }
            wire_ids
        };
        let first = fill(1, &mut incoming);
        assert_eq!(first.len(), 1_000, "a single caller may use its whole allowance");
        let counts: Vec<usize> = (2..8).map(|caller| fill(caller, &mut incoming).len()).collect();
        assert_eq!(counts, [500, 250, 125, 63, 31, 16], "each further caller gets half of what is left");
        assert!(incoming.has_room(99, 1_000));
        for wire_id in first {
            incoming.answer(wire_id, Kind::Call, Answer::Done);
        }
        assert!(!incoming.callers.contains_key(&1), "a caller without requests is forgotten");
        assert_eq!(fill(1, &mut incoming).len(), 508);
    }

    #[test]
    fn a_cancelled_request_is_answered_only_by_the_cancel() {
        let (sender, mut answers) = mpsc::unbounded_channel();
        let mut incoming = Incoming::default();
        let wire_id = incoming.insert(&request(41, Origin::Node(sender)));
        assert_eq!(incoming.cancel(Key { origin: 0, id: 41 }), Some((wire_id, Kind::Call)));
        assert!(!incoming.answer(wire_id, Kind::Call, Answer::Reply(Bytes::new())));
        incoming.fail_all(&Failure::may_have_run(Code::GONE, "gone"));
        let answer = answers.try_recv();
        assert!(
            matches!(&answer, Ok(RequestEvent::Answer(Answer::Failed(f))) if f.code == Code::CANCELLED),
            "{answer:?}"
        );
        assert!(answers.try_recv().is_err());
    }
}
