//! The requests that this session's peer has made and that are not answered yet.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use limes_wire::Code;
use limes_wire::frame::Role;

use super::context::SessionContext;
use crate::router::message::{Delivery, Failure, Key, Kind, Receiver};
use crate::telemetry::labels::{Direction, Path};
use crate::telemetry::metrics::Metrics;

/// Deadlines are looked at no finer than this: one scan serves all that end within it.
const GRAIN: Duration = Duration::from_millis(5);

/// One request of the peer, in flight.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Reply or acknowledgement.
    pub(crate) kind: Kind,
    began: Instant,
    deadline: Instant,
    bytes: usize,
    to: Option<Receiver>,
    /// The peer no longer waits. It counts until its answer comes: so long somebody still holds it.
    given_up: bool,
}

impl Sent {
    /// Records how long its peer, of this role, has waited until now, when the request ended with this code.
    pub(crate) fn measure(&self, metrics: &Metrics, sender: Role, code: Code, now: Instant) {
        let path = if matches!(self.to, Some(Receiver::Link(_))) { Path::Remote } else { Path::Local };
        let took = now.saturating_duration_since(self.began);
        metrics.answered(self.kind, (Direction::of(sender), path), code, took);
    }
}

/// The peer's own requests by the peer's own id. Lives in the session's task.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    no: u64,
    sent: HashMap<u64, Sent>,
    /// How many in `sent` the peer has given up.
    given_up: usize,
    /// Payloads of all in `sent`.
    bytes: usize,
    /// How many there may be, if not `limits.queued`.
    bytes_max: Option<usize>,
    /// No deadline lies before this; kept as a bound, so that a completion costs nothing.
    earliest: Option<Instant>,
}

impl Outgoing {
    /// An empty table of the session with this local number.
    pub(crate) fn new(no: u64) -> Self {
        Outgoing { no, ..Outgoing::default() }
    }

    /// The same for a peer that may have so many payload bytes in flight.
    pub(crate) fn with_bytes(no: u64, bytes_max: usize) -> Self {
        Outgoing { bytes_max: Some(bytes_max), ..Outgoing::new(no) }
    }

    /// How many are in flight, with those that the peer has given up.
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether the peer waits for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.sent.len() == self.given_up
    }

    /// Payload bytes in flight.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes a request with a payload of so many bytes, unless a limit of its connection or of the node
    /// (PROTOCOL 9.2), or a clash of ids, forbids it.
    ///
    /// # Errors
    /// Why it is not to be sent.
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

    /// Notes a request with a payload of so many bytes; false if the id is in use.
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
        self.sent.insert(id, Sent { kind, began, deadline, bytes, to: None, given_up: false });
        if self.earliest.is_none_or(|earliest| deadline < earliest) {
            self.earliest = Some(deadline);
        }
        true
    }

    /// Notes who has it, so that a cancel finds the way.
    pub(crate) fn sent_to(&mut self, id: u64, to: Receiver) {
        let Some(sent) = self.sent.get_mut(&id) else { return };
        if sent.given_up {
            to.deliver_always(Delivery::Cancel(Key { origin: self.no, id }));
        }
        sent.to = Some(to);
    }

    /// Takes a request out because it was answered. `None`: the peer does not wait for it.
    pub(crate) fn complete(&mut self, id: u64) -> Option<Sent> {
        let sent = self.sent.remove(&id)?;
        self.bytes -= sent.bytes;
        if sent.given_up {
            self.given_up -= 1;
            return None;
        }
        Some(sent)
    }

    /// The peer no longer waits for a request, and its receiver is told; gives what sort it was. `None`: the
    /// peer did not wait for it.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<Kind> {
        let sent = self.sent.get_mut(&id).filter(|sent| !sent.given_up)?;
        sent.given_up = true;
        self.given_up += 1;
        if let Some(to) = &sent.to {
            to.deliver_always(Delivery::Cancel(Key { origin: self.no, id }));
        }
        Some(sent.kind)
    }

    /// When [`Outgoing::expired`] is worth calling next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Takes out what is past its deadline and cancels it at the receiver.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<(u64, Kind)> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let late = now + GRAIN;
        let waited_for = |sent: &Sent| !sent.given_up;
        let due = self.sent.iter().filter(|(_, sent)| waited_for(sent) && sent.deadline <= late);
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        let ended = due.into_iter().filter_map(|id| self.cancel(id).map(|kind| (id, kind))).collect();
        self.earliest = self.sent.values().filter(|sent| waited_for(sent)).map(|sent| sent.deadline).min();
        ended
    }

    /// Records the latency of a request that [`Outgoing::expired`] has returned.
    pub(crate) fn measure_expired(&self, id: u64, metrics: &Metrics, sender: Role, now: Instant) {
        if let Some(sent) = self.sent.get(&id) {
            sent.measure(metrics, sender, Code::TIMEOUT, now);
        }
    }

    /// Cancels everything: the peer that asked is gone.
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
    fn so_many_bytes_may_be_in_flight() {
        let ctx = crate::server::assemble::Components::new(Default::default()).session;
        let deadline = Instant::now() + Duration::from_secs(5);
        for (mut outgoing, most) in [(Outgoing::new(7), 16), (Outgoing::with_bytes(7, 256 << 20), 256)] {
            let mut ask = |id| outgoing.admit(&ctx, id, Kind::Call, (deadline, deadline), 1 << 20);
            assert!((0..most).all(|id| ask(id).is_ok()));
            let refused = ask(most).unwrap_err();
            assert!(refused.code == Code::BUSY && refused.text.contains("limits.queued"), "{refused:?}");
            assert!(outgoing.complete(0).is_some());
            assert!(outgoing.admit(&ctx, most, Kind::Call, (deadline, deadline), 1 << 20).is_ok());
        }
    }

    #[test]
    fn ends_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut outgoing = Outgoing::new(7);
        assert!(outgoing.insert(1, Kind::Call, (start, start + Duration::from_millis(100)), 8));
        assert!(outgoing.insert(2, Kind::Message, (start, start + Duration::from_secs(5)), 8));
        assert!(outgoing.expired(start + Duration::from_millis(50)).is_empty());
        assert_eq!(outgoing.expired(start + Duration::from_millis(100)), vec![(1, Kind::Call)]);
        assert_eq!(outgoing.next_deadline(), Some(start + Duration::from_secs(5)));
        assert_eq!(outgoing.len(), 2, "its receiver has it still");
        assert!(outgoing.complete(1).is_none(), "nobody waits for this answer");
        assert_eq!(outgoing.len(), 1);
    }

    #[test]
    fn what_is_given_up_on_its_way_is_cancelled_where_it_arrives() {
        let (now, mailbox) = (Instant::now(), Mailbox::new());
        let receiver = Receiver::Link(LinkHandle::new(mailbox.clone()));
        let mut outgoing = Outgoing::new(7);
        assert!(outgoing.insert(1, Kind::Call, (now, now), 8));
        assert!(outgoing.cancel(1).is_some());
        assert!(!outgoing.insert(1, Kind::Call, (now, now), 8), "the cancel would hit the wrong one");
        outgoing.sent_to(1, receiver.clone());
        let told: Vec<Delivery> = mailbox.take_all().into_iter().filter_map(Message::into_delivery).collect();
        assert!(matches!(told[..], [Delivery::Cancel(Key { origin: 7, id: 1 })]), "{told:?}");
        assert!(outgoing.is_empty() && outgoing.cancel(1).is_none(), "the peer waits for nothing");
        assert_eq!((outgoing.len(), outgoing.bytes()), (1, 8), "the receiver has it");
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
