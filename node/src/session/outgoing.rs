//! Requests of a session's or link's peer that are not answered yet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use limes_wire::Code;
use limes_wire::frame::Role;

use super::context::SessionContext;
use crate::router::message::{Delivery, Failure, Key, Kind, Receiver};
use crate::telemetry::labels::{Direction, Path};
use crate::telemetry::metrics::Metrics;

/// One scan for expired deadlines serves all that end within this time.
const GRANULARITY: Duration = Duration::from_millis(5);

/// One request of the peer, in flight.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Reply or acknowledgement.
    pub(crate) kind: Kind,
    began: Instant,
    deadline: Instant,
    bytes: usize,
    to: Option<Receiver>,
    /// The peer no longer waits. The request counts until it is answered, because its receiver still holds it.
    is_abandoned: bool,
}

impl Sent {
    /// Records how long its peer, of this role, has waited until now, when the request ended with this code.
    pub(crate) fn measure(&self, metrics: &Metrics, sender: Role, code: Code, now: Instant) {
        let path = if matches!(self.to, Some(Receiver::Link(_))) { Path::Remote } else { Path::Local };
        let took = now.saturating_duration_since(self.began);
        metrics.answered(self.kind, (Direction::of(sender), path), code, took);
    }
}

/// The peer's requests, by the peer's own id. Owned by the session's task.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    no: u64,
    sent: HashMap<u64, Sent>,
    /// How many in `sent` the peer has abandoned.
    abandoned: usize,
    /// Payload bytes of all in `sent`.
    bytes: usize,
    /// The limit of `bytes`, if it is higher than `limits.queued`.
    bytes_max: Option<usize>,
    /// A lower bound of the deadlines, so that an answer need not search for the next.
    earliest: Option<Instant>,
}

impl Outgoing {
    /// An empty table of the session with this local number.
    pub(crate) fn new(no: u64) -> Self {
        Outgoing { no, ..Outgoing::default() }
    }

    /// As [`Outgoing::new`], for a peer that may have so many payload bytes in flight.
    pub(crate) fn with_bytes(no: u64, bytes_max: usize) -> Self {
        Outgoing { bytes_max: Some(bytes_max), ..Outgoing::new(no) }
    }

    /// How many are in flight, with those that the peer has abandoned.
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether the peer waits for no answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent.len() == self.abandoned
    }

    /// Payload bytes in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a request with a payload of `bytes`.
    ///
    /// # Errors
    /// A limit of the connection or of the node is reached (PROTOCOL 9.2), or the id is in use.
    pub(crate) fn admit(
        &mut self,
        ctx: &SessionContext,
        id: u64,
        kind: Kind,
        (now, deadline): (Instant, Instant),
        bytes: usize,
    ) -> Result<(), Failure> {
        let limits = &ctx.limits;
        if self.sent.contains_key(&id) {
            return Err(Failure::not_run(Code::PROTOCOL, "the number is in use by a call in flight"));
        }
        if self.len() >= limits.calls {
            let text = "too many calls and messages in flight on this connection (limits.calls)";
            return Err(Failure::not_run(Code::BUSY, text));
        }
        let most = self.bytes_max.unwrap_or(0).max(limits.queued.as_usize());
        if !self.sent.is_empty() && self.bytes() + bytes > most {
            let text = format!("too many bytes in flight on this connection: {most} at most (limits.queued)");
            return Err(Failure::not_run(Code::BUSY, text));
        }
        if let Some(text) = ctx.memory.refusal() {
            return Err(Failure::not_run(Code::BUSY, text));
        }
        self.insert(id, kind, (now, deadline), bytes);
        Ok(())
    }

    /// Adds a request with a payload of `bytes`, regardless of limits; false if the id is in use.
    pub(crate) fn insert(
        &mut self,
        id: u64,
        kind: Kind,
        (began, deadline): (Instant, Instant),
        bytes: usize,
    ) -> bool {
        if self.sent.contains_key(&id) {
            return false;
        }
        self.bytes += bytes;
        self.sent.insert(id, Sent { kind, began, deadline, bytes, to: None, is_abandoned: false });
        if self.earliest.is_none_or(|earliest| deadline < earliest) {
            self.earliest = Some(deadline);
        }
        true
    }

    /// Records the receiver of a request, which gets the cancel; sends it if the peer has cancelled meanwhile.
    pub(crate) fn sent_to(&mut self, id: u64, to: Receiver) {
        let Some(sent) = self.sent.get_mut(&id) else { return };
        if sent.is_abandoned {
            to.deliver_always(Delivery::Cancel(Key { origin: self.no, id }));
        }
        sent.to = Some(to);
    }

    /// Removes a request that is answered. `None`: the peer does not wait for it.
    pub(crate) fn complete(&mut self, id: u64) -> Option<Sent> {
        let sent = self.sent.remove(&id)?;
        self.bytes -= sent.bytes;
        if sent.is_abandoned {
            self.abandoned -= 1;
            return None;
        }
        Some(sent)
    }

    /// Abandons a request and cancels it at its receiver; returns its kind. `None`: the peer did not wait for it.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<Kind> {
        let sent = self.sent.get_mut(&id).filter(|sent| !sent.is_abandoned)?;
        sent.is_abandoned = true;
        self.abandoned += 1;
        if let Some(to) = &sent.to {
            to.deliver_always(Delivery::Cancel(Key { origin: self.no, id }));
        }
        Some(sent.kind)
    }

    /// When to call [`Outgoing::expired`] next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Abandons the requests that are past their deadline and cancels them at their receivers. Returns ids and kinds.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<(u64, Kind)> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let late = now + GRANULARITY;
        let is_awaited = |sent: &Sent| !sent.is_abandoned;
        let due = self.sent.iter().filter(|(_, sent)| is_awaited(sent) && sent.deadline <= late);
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        let ended = due.into_iter().filter_map(|id| self.cancel(id).map(|kind| (id, kind))).collect();
        self.earliest = self.sent.values().filter(|sent| is_awaited(sent)).map(|sent| sent.deadline).min();
        ended
    }

    /// Records the latency of a request that [`Outgoing::expired`] has returned.
    pub(crate) fn measure_expired(&self, id: u64, metrics: &Metrics, sender: Role, now: Instant) {
        if let Some(sent) = self.sent.get(&id) {
            sent.measure(metrics, sender, Code::TIMEOUT, now);
        }
    }

    /// Abandons all requests, because the peer is gone.
    pub(crate) fn cancel_all(&mut self) {
        let ids: Vec<u64> = self.sent.keys().copied().collect();
        for id in ids {
            self.cancel(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use limes_wire::driver::Mailbox;

    use super::*;
    use crate::router::message::{LinkHandle, Message};

    #[test]
    fn bytes_in_flight_are_limited() {
        let ctx = crate::server::assemble::Components::new(Default::default()).session;
        let deadline = Instant::now() + Duration::from_secs(5);
        for (mut outgoing, most) in [(Outgoing::new(7), 16), (Outgoing::with_bytes(7, 256 << 20), 256)] {
            let mut admit = |id| outgoing.admit(&ctx, id, Kind::Call, (deadline, deadline), 1 << 20);
            assert!((0..most).all(|id| admit(id).is_ok()));
            let refused = admit(most).unwrap_err();
            assert!(refused.code == Code::BUSY && refused.text.contains("limits.queued"), "{refused:?}");
            assert!(outgoing.complete(0).is_some());
            assert!(outgoing.admit(&ctx, most, Kind::Call, (deadline, deadline), 1 << 20).is_ok());
        }
    }

    #[test]
    fn a_request_expires_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut outgoing = Outgoing::new(7);
        assert!(outgoing.insert(1, Kind::Call, (start, start + Duration::from_millis(100)), 8));
        assert!(outgoing.insert(2, Kind::Message, (start, start + Duration::from_secs(5)), 8));
        assert!(outgoing.expired(start + Duration::from_millis(50)).is_empty());
        assert_eq!(outgoing.expired(start + Duration::from_millis(100)), vec![(1, Kind::Call)]);
        assert_eq!(outgoing.next_deadline(), Some(start + Duration::from_secs(5)));
        assert_eq!(outgoing.len(), 2, "the receiver still holds it");
        assert!(outgoing.complete(1).is_none(), "the peer does not wait for this answer");
        assert_eq!(outgoing.len(), 1);
    }

    #[test]
    fn a_request_cancelled_before_its_route_is_known_is_cancelled_at_the_receiver() {
        let (now, mailbox) = (Instant::now(), Mailbox::new());
        let receiver = Receiver::Link(LinkHandle::new(mailbox.clone()));
        let mut outgoing = Outgoing::new(7);
        assert!(outgoing.insert(1, Kind::Call, (now, now), 8));
        assert!(outgoing.cancel(1).is_some());
        assert!(!outgoing.insert(1, Kind::Call, (now, now), 8), "the cancel would hit the wrong request");
        outgoing.sent_to(1, receiver.clone());
        let delivered: Vec<Delivery> =
            mailbox.take_all().into_iter().filter_map(Message::into_delivery).collect();
        assert!(matches!(delivered[..], [Delivery::Cancel(Key { origin: 7, id: 1 })]), "{delivered:?}");
        assert!(outgoing.is_empty() && outgoing.cancel(1).is_none(), "the peer waits for no answer");
        assert_eq!((outgoing.len(), outgoing.bytes()), (1, 8), "the receiver holds it");
        assert!(outgoing.complete(1).is_none());
        assert_eq!((outgoing.len(), outgoing.bytes()), (0, 0));
        assert!(outgoing.insert(1, Kind::Call, (now, now), 8) && !outgoing.is_empty());
    }

    #[test]
    fn an_id_in_use_is_refused_until_it_is_answered() {
        let now = Instant::now();
        let mut outgoing = Outgoing::new(7);
        assert!(outgoing.insert(1, Kind::Call, (now, now), 8));
        assert!(!outgoing.insert(1, Kind::Call, (now, now), 8));
        assert_eq!(outgoing.bytes(), 8);
        assert!(outgoing.complete(1).is_some());
        assert_eq!(outgoing.bytes(), 0);
        assert!(outgoing.insert(1, Kind::Call, (now, now), 8));
    }
}
