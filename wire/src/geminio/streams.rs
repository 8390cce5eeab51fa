//! The streams of a connection: either side opens one, and both close it by a handshake of Dismiss and DismissAck.
//!
//! ```text
//!  the peer opens:  Opening ── accept ──▶ Open          we open:  Offered ── SessionAck ──▶ Open
//!  the peer closes: any ── Dismiss ──▶ Closing (ours sent too) ── DismissAck ──▶ removed
//!  we close:        any ── dismiss ──▶ Closing ── DismissAck and the peer's Dismiss ──▶ removed
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::data::SessionData;
use super::malformed::Malformed;
use super::output::Output;
use super::packet::{Body, DEFAULT_SESSION, Packet};
use super::stream_packet::StreamPacket;

/// How long a client may take to answer a stream that is offered to it.
pub const OFFER: Duration = Duration::from_secs(30);
/// How long the closing handshake may take before the stream is removed.
pub const DISMISS: Duration = Duration::from_secs(30);
/// Packets that a client buffers for a slow reader. At the end of the closing handshake it discards the packets beyond
/// them, so the last DismissAck is delayed by [`TAIL`] if there may be more.
pub const PEER_BUFFER: u64 = 32;
/// How long after the newest packet the last DismissAck is delayed for a reader that may be slow.
pub const TAIL: Duration = Duration::from_secs(3);
/// The longest delay for a reader that is known to be slow: a client waits 30 s for the DismissAck, and then discards
/// the same packets.
pub const TAIL_MAX: Duration = Duration::from_secs(25);
/// Packets that may still be unread when a client answers our Dismiss; its reader has taken all others by then.
const BACKLOG: u64 = 2 * PEER_BUFFER + 1;
/// Timers are checked no more often than this, because each check visits all streams.
const GRAIN: Duration = Duration::from_millis(100);
/// A reader did not delay a Dismiss that arrives sooner than this after ours.
const PROMPT: Duration = Duration::from_millis(100);

/// The output queue, and the ids of this side's packets.
#[derive(Debug, Default)]
pub(super) struct Sender {
    pub(super) output: Output,
    last: u64,
}

impl Sender {
    /// Queues a packet with a new id; gives the id.
    pub(super) fn send(&mut self, body: Body) -> Result<u64, Malformed> {
        self.last += 1;
        self.output.push(&Packet { id: self.last, body })?;
        Ok(self.last)
    }

    /// Queues a packet that repeats an id. Packets that could be too large go by [`Sender::send_on`].
    pub(super) fn answer(&mut self, id: u64, body: Body) {
        let _ = self.output.push(&Packet { id, body });
    }

    /// Queues a packet of a stream with an id of the caller's choice.
    pub(super) fn send_on(&mut self, session: u64, id: u64, packet: StreamPacket) -> Result<(), Malformed> {
        self.output.push(&Packet { id, body: Body::Stream(session, packet) })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The peer waits for our SessionAck to its Session packet.
    Opening {
        packet: u64,
        negotiate: u64,
    },
    /// We wait for the peer's SessionAck.
    Offered {
        until: Instant,
    },
    Open,
    Closing(Closing),
}

/// This side has sent Dismiss.
#[derive(Debug, PartialEq, Eq)]
struct Closing {
    /// The peer has sent DismissAck.
    acked: bool,
    /// The peer has sent Dismiss too.
    peer: bool,
    /// Until when our DismissAck is delayed, and the id of the packet that it answers.
    late: Option<(Instant, u64)>,
    /// When this side sent Dismiss.
    sent_at: Instant,
    /// When the stream is removed without an answer.
    until: Instant,
}

impl Closing {
    fn new(now: Instant, peer: bool) -> Self {
        Closing { acked: false, peer, late: None, sent_at: now, until: now + DISMISS }
    }
}

#[derive(Debug)]
struct Stream {
    state: State,
    /// Packets sent to the peer.
    sent: u64,
    /// When the first and the newest were sent.
    times: Option<(Instant, Instant)>,
}

impl Stream {
    fn new(state: State) -> Self {
        Stream { state, sent: 0, times: None }
    }

    /// Until when our DismissAck is delayed, if the peer sends Dismiss now and this side sent it at `sent_at`: its
    /// reader may have [`PEER_BUFFER`] unread packets more than the [`PEER_BUFFER`] that the client keeps.
    fn tail(&self, now: Instant, sent_at: Instant) -> Option<Instant> {
        let (first, last) = self.times.filter(|_| self.sent > PEER_BUFFER)?;
        let delay = now.saturating_duration_since(sent_at);
        if delay < PROMPT {
            return Some(last + TAIL);
        }
        // A reader delayed it. If the reader was never idle, this is its time for each packet; twice that, because it
        // may have become slower. If it was idle before, it needed no longer than the delay.
        let read = u32::try_from(self.sent.saturating_sub(BACKLOG)).unwrap_or(u32::MAX).max(1);
        let each = (now.saturating_duration_since(first) * 2 / read).min(delay);
        let rest = each * (PEER_BUFFER as u32 + 1);
        Some(now + rest.max(delay).clamp(TAIL, TAIL_MAX))
    }
}

/// The effect of a packet about a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The peer has accepted a stream of ours.
    Accepted(u64),
    /// The peer sends nothing more, and nothing more may be sent to it.
    Ended(u64),
}

/// All streams of a connection but the default one.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<u64, Stream>,
    own: u64,
    /// No timer is due before this time; `None`: there is no timer.
    due: Option<Instant>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    fn wait(&mut self, until: Instant) {
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
    }

    /// A small unused id; those of the clients are much larger.
    fn free(&mut self) -> u64 {
        loop {
            self.own = self.own.checked_add(1).unwrap_or_default().max(DEFAULT_SESSION + 1);
            if !self.open.contains_key(&self.own) {
                return self.own;
            }
        }
    }

    /// The id for a stream that the peer requests: the id of the request if it is free, so that packets right behind the
    /// SessionAck find the stream in the client's table. `None`: the peer has used the id already.
    pub(super) fn number(&mut self, negotiate: u64, acquire: bool) -> Option<u64> {
        let usable = negotiate > DEFAULT_SESSION && !self.open.contains_key(&negotiate);
        if usable { Some(negotiate) } else { acquire.then(|| self.free()) }
    }

    /// Adds a stream that the peer requests.
    pub(super) fn insert_requested(&mut self, packet: u64, negotiate: u64, session: u64) {
        self.open.insert(session, Stream::new(State::Opening { packet, negotiate }));
    }

    /// Accepts a stream that the peer requested. False: the peer does not wait for it.
    pub(super) fn accept(&mut self, session: u64, sender: &mut Sender) -> bool {
        let Some(stream) = self.open.get_mut(&session) else { return false };
        let State::Opening { packet, negotiate } = stream.state else { return false };
        sender.answer(packet, Body::SessionAck { negotiate, session, data: SessionData::default() });
        stream.state = State::Open;
        true
    }

    /// Offers a stream to the peer; gives its id.
    pub(super) fn offer(
        &mut self,
        now: Instant,
        data: SessionData,
        sender: &mut Sender,
    ) -> Result<u64, Malformed> {
        let session = self.free();
        sender.send(Body::Session { acquire: false, negotiate: session, data })?;
        let until = now + OFFER;
        self.open.insert(session, Stream::new(State::Offered { until }));
        self.wait(until);
        Ok(session)
    }

    /// The peer has accepted a stream.
    pub(super) fn acked(&mut self, negotiate: u64) -> Option<Change> {
        let stream = self.open.get_mut(&negotiate)?;
        if !matches!(stream.state, State::Offered { .. }) {
            return None;
        }
        stream.state = State::Open;
        Some(Change::Accepted(negotiate))
    }

    /// Counts a packet that is about to be sent on a stream; false if the stream is not open.
    pub(super) fn note_sent(&mut self, now: Instant, session: u64) -> bool {
        match self.open.get_mut(&session) {
            Some(stream) if stream.state == State::Open => {
                stream.sent += 1;
                stream.times = Some((stream.times.map_or(now, |(first, _)| first), now));
                true
            }
            _ => false,
        }
    }

    /// Whether packets of the peer on a stream are accepted.
    pub(super) fn accepts_from_peer(&self, session: u64) -> bool {
        self.open.get(&session).is_some_and(|stream| match &stream.state {
            State::Open => true,
            State::Closing(closing) => !closing.peer,
            State::Opening { .. } | State::Offered { .. } => false,
        })
    }

    /// Closes a stream from this side, in any state. What was sent before still arrives. A stream that the peer
    /// requested is accepted first, because the protocol has no refusal that clients understand.
    pub(super) fn dismiss(&mut self, now: Instant, session: u64, sender: &mut Sender) {
        self.accept(session, sender);
        let Some(stream) = self.open.get_mut(&session) else { return };
        if matches!(stream.state, State::Closing(_)) {
            return;
        }
        sender.send_dismiss(session);
        stream.state = State::Closing(Closing::new(now, false));
        self.wait(now + DISMISS);
    }

    /// The peer has sent Dismiss.
    pub(super) fn dismissed(
        &mut self,
        now: Instant,
        packet: u64,
        session: u64,
        sender: &mut Sender,
    ) -> Option<Change> {
        let ack = Body::DismissAck { session, data: SessionData::default() };
        let Some(stream) = self.open.get_mut(&session) else {
            // Answered nevertheless: a closing client waits for it.
            sender.answer(packet, ack);
            return None;
        };
        let sent_at = if let State::Closing(closing) = &stream.state { closing.sent_at } else { now };
        let tail = stream.tail(now, sent_at).filter(|until| *until > now);
        if let State::Closing(closing) = &mut stream.state {
            if closing.peer {
                sender.answer(packet, ack);
                return None;
            }
            closing.peer = true;
            if let Some(until) = tail {
                closing.late = Some((until, packet));
                closing.until = closing.until.max(until);
                self.wait(until);
            } else {
                sender.answer(packet, ack);
                self.remove_if_done(session);
            }
            return Some(Change::Ended(session));
        }
        sender.answer(packet, ack);
        sender.send_dismiss(session);
        stream.state = State::Closing(Closing::new(now, true));
        self.wait(now + DISMISS);
        Some(Change::Ended(session))
    }

    /// The peer has answered our Dismiss.
    pub(super) fn dismiss_acked(&mut self, session: u64) {
        if let Some(Stream { state: State::Closing(closing), .. }) = self.open.get_mut(&session) {
            closing.acked = true;
            self.remove_if_done(session);
        }
    }

    fn remove_if_done(&mut self, session: u64) {
        if let Some(Stream { state: State::Closing(closing), .. }) = self.open.get(&session)
            && closing.acked
            && closing.peer
            && closing.late.is_none()
        {
            self.open.remove(&session);
        }
    }

    /// Does what is due; gives the streams that ended.
    pub(super) fn expire(&mut self, now: Instant, sender: &mut Sender) -> Vec<Change> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let mut ended = Vec::new();
        let mut again: Option<Instant> = None;
        let mut later = |at: Instant| again = Some(again.map_or(at, |again| again.min(at)));
        let mut offers = Vec::new();
        self.open.retain(|session, stream| match &mut stream.state {
            State::Opening { .. } | State::Open => true,
            State::Offered { until } if now >= *until => {
                offers.push(*session);
                true
            }
            State::Offered { until } => {
                later(*until);
                true
            }
            State::Closing(closing) => {
                if let Some((at, packet)) = closing.late {
                    if now >= at {
                        let data = SessionData::default();
                        sender.answer(packet, Body::DismissAck { session: *session, data });
                        closing.late = None;
                    } else {
                        later(at);
                    }
                }
                if now >= closing.until {
                    if !closing.peer {
                        ended.push(Change::Ended(*session));
                    }
                    return false;
                }
                later(closing.until);
                !(closing.acked && closing.peer && closing.late.is_none())
            }
        });
        self.due = again.map(|again| again.max(now + GRAIN));
        for session in offers {
            // The peer did not accept it in time; it may still accept it later.
            self.dismiss(now, session, sender);
            ended.push(Change::Ended(session));
        }
        ended
    }
}

impl Sender {
    /// Accepts a stream and closes it at once, because the protocol has no refusal that clients understand. Keeps no state:
    /// the peer's Dismiss is answered whether the stream is known or not.
    pub(super) fn refuse_stream(&mut self, packet: u64, negotiate: u64, session: u64) {
        self.answer(packet, Body::SessionAck { negotiate, session, data: SessionData::default() });
        self.send_dismiss(session);
    }

    fn send_dismiss(&mut self, session: u64) {
        let _ = self.send(Body::Dismiss { session, data: SessionData::default() });
    }
}
