//! The requests that others have sent to this session's peer and that it has not answered yet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

use limes_wire::Code;

use crate::router::message::{Answer, Failure, Key, Kind, Origin, Request};

/// One request handed to the peer.
#[derive(Debug)]
pub(crate) struct Held {
    /// Reply or acknowledgement.
    pub(crate) kind: Kind,
    origin: Origin,
    id: u64,
    caller: u64,
}

/// Requests at the peer by the id they have on its wire. Lives in the session's task.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    last: u64,
    held: HashMap<u64, Held>,
    by_key: HashMap<Key, u64>,
    /// How many requests of each caller the peer has.
    callers: HashMap<u64, usize>,
}

impl Incoming {
    /// Whether the peer owes no answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a caller may have one more request here, where each may send `calls` at once. There is room
    /// for twice as many, and nobody has more than is left for others (Choudhury and Hahne, Dynamic Queue
    /// Length Thresholds, 1998): one alone may have all that it may send, and none can fill it up.
    fn has_room(&self, caller: u64, calls: usize) -> bool {
        let left = calls.saturating_mul(2).saturating_sub(self.held.len());
        self.callers.get(&caller).copied().unwrap_or(0) < left
    }

    /// Takes a request that is to be written to the peer now, and gives the id to use on the wire.
    ///
    /// # Errors
    /// It is too late, or its caller has too many here.
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

    /// Notes a request and gives the id to use on the wire.
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

    /// Passes the peer's answer on. False: nothing of that kind is held under the id, which happens
    /// when the answer crossed a cancel.
    pub(crate) fn answer(&mut self, wire_id: u64, kind: Kind, answer: Answer) -> bool {
        if self.held.get(&wire_id).is_none_or(|held| held.kind != kind) {
            return false;
        }
        let Some(held) = self.take(wire_id) else { return false };
        self.by_key.remove(&Key { origin: held.origin.no(), id: held.id });
        held.origin.answer(held.id, answer);
        true
    }

    /// Passes on that the peer failed a request, whichever kind it was.
    pub(crate) fn fail(&mut self, wire_id: u64, failure: Failure) {
        if let Some(kind) = self.held.get(&wire_id).map(|held| held.kind) {
            self.answer(wire_id, kind, Answer::Failed(failure));
        }
    }

    /// Forgets a request whose origin no longer waits, and says so to it; gives its wire id and what sort it
    /// was.
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

    /// Ends everything: the peer is gone. What it was given may have run.
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
        assert!(!incoming.answer(wire_id, Kind::Message, Answer::Done), "an ack is no reply");
        assert!(incoming.answer(wire_id, Kind::Call, Answer::Reply(Bytes::from_static(b"x"))));
        assert!(!incoming.answer(wire_id, Kind::Call, Answer::Reply(Bytes::new())));
        incoming.fail_all(&Failure::may_have_run(Code::GONE, "gone"));
        assert!(matches!(answers.try_recv(), Ok(RequestEvent::Answer(Answer::Reply(_)))));
        assert!(answers.try_recv().is_err());
    }

    #[test]
    fn however_much_some_callers_want_there_is_room_for_others() {
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
        assert_eq!(first.len(), 1_000, "one alone may have all that it may send");
        let counts: Vec<usize> = (2..8).map(|caller| fill(caller, &mut incoming).len()).collect();
        assert_eq!(counts, [500, 250, 125, 63, 31, 16], "and the last one is not shut out");
        assert!(incoming.has_room(99, 1_000));
        for wire_id in first {
            incoming.answer(wire_id, Kind::Call, Answer::Done);
        }
        assert!(!incoming.callers.contains_key(&1), "who has nothing there is forgotten");
        assert_eq!(fill(1, &mut incoming).len(), 508);
    }

    #[test]
    fn a_cancelled_request_is_not_answered() {
        let (sender, mut answers) = mpsc::unbounded_channel();
        let mut incoming = Incoming::default();
        let wire_id = incoming.insert(&request(41, Origin::Node(sender)));
        assert_eq!(incoming.cancel(Key { origin: 0, id: 41 }), Some((wire_id, Kind::Call)));
        assert!(!incoming.answer(wire_id, Kind::Call, Answer::Reply(Bytes::new())));
        incoming.fail_all(&Failure::may_have_run(Code::GONE, "gone"));
        let told = answers.try_recv();
        assert!(
            matches!(&told, Ok(RequestEvent::Answer(Answer::Failed(f))) if f.code == Code::CANCELLED),
            "{told:?}"
        );
        assert!(answers.try_recv().is_err());
    }
}
