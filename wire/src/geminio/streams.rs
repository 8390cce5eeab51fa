//! The streams of a connection: opened by either side, closed by a handshake in which both say
//! that they are done.
//!
//! ```text
//!  the peer opens:  Opening ── accept ──▶ Open          we open:  Offered ── SessionAck ──▶ Open
//!  the peer closes: any ── Dismiss ──▶ Closing (ours said too) ── DismissAck ──▶ forgotten
//!  we close:        any ── dismiss ──▶ Closing ── DismissAck and the peer's Dismiss ──▶ forgotten
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::data::SessionData;
use super::malformed::Malformed;
use super::output::Output;
use super::packet::{Body, DEFAULT_SESSION, Packet};
use super::word::Word;

/// How long a client may take to answer a stream that is offered to it.
pub const OFFER: Duration = Duration::from_secs(30);
/// How long the handshake of a close may take before the stream is forgotten.
pub const DISMISS: Duration = Duration::from_secs(30);
/// Packets that a client keeps for a reader that is behind. When the handshake of a close is over
/// it throws away what is beyond them, so the last answer waits for [`TAIL`] if there may be more.
pub const PEER_BUFFER: u64 = 32;
/// How long after the newest packet the last answer of a close is held back for a reader that may be
/// behind.
pub const TAIL: Duration = Duration::from_secs(3);
/// The longest that it is held back for one that is known to be behind: a client waits 30 s for it, and
/// throws the same away then.
pub const TAIL_MAX: Duration = Duration::from_secs(25);
/// Packets that may still be unread when a client answers our Dismiss: before that its reader has to take
/// the others, which it is this late with.
const BACKLOG: u64 = 2 * PEER_BUFFER + 1;
/// Timers are looked at no more often than this, for each look goes through all streams.
const GRAIN: Duration = Duration::from_millis(100);
/// What comes sooner after our Dismiss was not held up by a reader.
const PROMPT: Duration = Duration::from_millis(100);

/// What is to be written, and the ids of this side's packets.
#[derive(Debug, Default)]
pub(super) struct Says {
    pub(super) output: Output,
    last: u64,
}

impl Says {
    /// A packet of our own; gives its id.
    pub(super) fn say(&mut self, body: Body) -> Result<u64, Malformed> {
        self.last += 1;
        self.output.push(&Packet { id: self.last, body })?;
        Ok(self.last)
    }

    /// A packet that repeats an id. Those that could be too large go by [`Says::word`].
    pub(super) fn answer(&mut self, id: u64, body: Body) {
        let _ = self.output.push(&Packet { id, body });
    }

    /// A word with an id of the caller's choice.
    pub(super) fn word(&mut self, session: u64, id: u64, word: Word) -> Result<(), Malformed> {
        self.output.push(&Packet { id, body: Body::On(session, word) })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The peer waits for our SessionAck to its packet.
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

/// We have said Dismiss.
#[derive(Debug, PartialEq, Eq)]
struct Closing {
    /// The peer has answered it.
    acked: bool,
    /// The peer has said Dismiss too.
    peer: bool,
    /// The answer to that is held back until then: its packet.
    late: Option<(Instant, u64)>,
    /// When we said it.
    said: Instant,
    /// The peer has been silent about it for too long.
    until: Instant,
}

impl Closing {
    fn new(now: Instant, peer: bool) -> Self {
        Closing { acked: false, peer, late: None, said: now, until: now + DISMISS }
    }
}

#[derive(Debug)]
struct Stream {
    state: State,
    /// Packets sent to the peer.
    sent: u64,
    /// When the first and the newest were.
    times: Option<(Instant, Instant)>,
}

impl Stream {
    fn new(state: State) -> Self {
        Stream { state, sent: 0, times: None }
    }

    /// Until when the last answer of a close is held back, if the peer says Dismiss now and we did at `said`:
    /// its reader may have [`PEER_BUFFER`] packets too many, and [`PEER_BUFFER`] more that are no concern.
    fn tail(&self, now: Instant, said: Instant) -> Option<Instant> {
        let (first, last) = self.times.filter(|_| self.sent > PEER_BUFFER)?;
        let delay = now.saturating_duration_since(said);
        if delay < PROMPT {
            return Some(last + TAIL);
        }
        // It was held up by a reader, which needed so long for each packet if it was never idle; twice that,
        // for it may have become slower. If it was idle before, it needed no longer than the delay.
        let read = u32::try_from(self.sent.saturating_sub(BACKLOG)).unwrap_or(u32::MAX).max(1);
        let each = (now.saturating_duration_since(first) * 2 / read).min(delay);
        let rest = each * (PEER_BUFFER as u32 + 1);
        Some(now + rest.max(delay).clamp(TAIL, TAIL_MAX))
    }
}

/// What a packet about a stream has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The peer has taken a stream of ours.
    Accepted(u64),
    /// Nothing more comes from the peer, and nothing more may be sent.
    Ended(u64),
}

/// All streams of a connection but the default one.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<u64, Stream>,
    own: u64,
    /// No timer is due before; `None`: no timer.
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

    /// A small id that no stream has: those of the clients lie far above.
    fn free(&mut self) -> u64 {
        loop {
            self.own = self.own.checked_add(1).unwrap_or_default().max(DEFAULT_SESSION + 1);
            if !self.open.contains_key(&self.own) {
                return self.own;
            }
        }
    }

    /// The number of a stream that the peer asks for. Its own becomes the session's, so that what follows the
    /// SessionAck closely finds it in the client's table; `None`: it has used the number already.
    pub(super) fn number(&mut self, negotiate: u64, acquire: bool) -> Option<u64> {
        let usable = negotiate > DEFAULT_SESSION && !self.open.contains_key(&negotiate);
        if usable { Some(negotiate) } else { acquire.then(|| self.free()) }
    }

    /// The peer asks for a stream, which gets this number.
    pub(super) fn asked(&mut self, packet: u64, negotiate: u64, session: u64) {
        self.open.insert(session, Stream::new(State::Opening { packet, negotiate }));
    }

    /// Takes the stream that the peer asked for. False: it does not wait for that (any more).
    pub(super) fn accept(&mut self, session: u64, says: &mut Says) -> bool {
        let Some(stream) = self.open.get_mut(&session) else { return false };
        let State::Opening { packet, negotiate } = stream.state else { return false };
        says.answer(packet, Body::SessionAck { negotiate, session, data: SessionData::default() });
        stream.state = State::Open;
        true
    }

    /// Offers the peer a stream; gives its id.
    pub(super) fn offer(
        &mut self,
        now: Instant,
        data: SessionData,
        says: &mut Says,
    ) -> Result<u64, Malformed> {
        let session = self.free();
        says.say(Body::Session { acquire: false, negotiate: session, data })?;
        let until = now + OFFER;
        self.open.insert(session, Stream::new(State::Offered { until }));
        self.wait(until);
        Ok(session)
    }

    /// The peer has taken a stream.
    pub(super) fn acked(&mut self, negotiate: u64) -> Option<Change> {
        let stream = self.open.get_mut(&negotiate)?;
        if !matches!(stream.state, State::Offered { .. }) {
            return None;
        }
        stream.state = State::Open;
        Some(Change::Accepted(negotiate))
    }

    /// Whether something may be sent on a stream.
    pub(super) fn sends(&mut self, now: Instant, session: u64) -> bool {
        match self.open.get_mut(&session) {
            Some(stream) if stream.state == State::Open => {
                stream.sent += 1;
                stream.times = Some((stream.times.map_or(now, |(first, _)| first), now));
                true
            }
            _ => false,
        }
    }

    /// Whether what the peer says on a stream is to be heard.
    pub(super) fn hears(&self, session: u64) -> bool {
        self.open.get(&session).is_some_and(|stream| match &stream.state {
            State::Open => true,
            State::Closing(closing) => !closing.peer,
            State::Opening { .. } | State::Offered { .. } => false,
        })
    }

    /// Closes a stream from this side, whatever its state. What was sent before still arrives. A
    /// stream that the peer asked for is taken first: its client can say "refused" in no other way.
    pub(super) fn dismiss(&mut self, now: Instant, session: u64, says: &mut Says) {
        self.accept(session, says);
        let Some(stream) = self.open.get_mut(&session) else { return };
        if matches!(stream.state, State::Closing(_)) {
            return;
        }
        says.answer_dismiss(session);
        stream.state = State::Closing(Closing::new(now, false));
        self.wait(now + DISMISS);
    }

    /// The peer says Dismiss.
    pub(super) fn dismissed(
        &mut self,
        now: Instant,
        packet: u64,
        session: u64,
        says: &mut Says,
    ) -> Option<Change> {
        let ack = Body::DismissAck { session, data: SessionData::default() };
        let Some(stream) = self.open.get_mut(&session) else {
            // Answered all the same: a client that closes waits for it.
            says.answer(packet, ack);
            return None;
        };
        let said = if let State::Closing(closing) = &stream.state { closing.said } else { now };
        let tail = stream.tail(now, said).filter(|until| *until > now);
        if let State::Closing(closing) = &mut stream.state {
            if closing.peer {
                says.answer(packet, ack);
                return None;
            }
            closing.peer = true;
            if let Some(until) = tail {
                closing.late = Some((until, packet));
                closing.until = closing.until.max(until);
                self.wait(until);
            } else {
                says.answer(packet, ack);
                self.forget_if_done(session);
            }
            return Some(Change::Ended(session));
        }
        says.answer(packet, ack);
        says.answer_dismiss(session);
        stream.state = State::Closing(Closing::new(now, true));
        self.wait(now + DISMISS);
        Some(Change::Ended(session))
    }

    /// The peer has answered our Dismiss.
    pub(super) fn dismiss_acked(&mut self, session: u64) {
        if let Some(Stream { state: State::Closing(closing), .. }) = self.open.get_mut(&session) {
            closing.acked = true;
            self.forget_if_done(session);
        }
    }

    fn forget_if_done(&mut self, session: u64) {
        if let Some(Stream { state: State::Closing(closing), .. }) = self.open.get(&session)
            && closing.acked
            && closing.peer
            && closing.late.is_none()
        {
            self.open.remove(&session);
        }
    }

    /// Does what is due; gives the streams that have ended with it.
    pub(super) fn expire(&mut self, now: Instant, says: &mut Says) -> Vec<Change> {
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
                        says.answer(packet, Body::DismissAck { session: *session, data });
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
            // Nobody takes it: it may be taken later than we are willing to wait.
            self.dismiss(now, session, says);
            ended.push(Change::Ended(session));
        }
        ended
    }
}

impl Says {
    /// Takes a stream and closes it at once, for a client understands "refused" in no other way. Nothing is
    /// kept of it: its Dismiss is answered whether the stream is known or not.
    pub(super) fn refuse_stream(&mut self, packet: u64, negotiate: u64, session: u64) {
        self.answer(packet, Body::SessionAck { negotiate, session, data: SessionData::default() });
        self.answer_dismiss(session);
    }

    fn answer_dismiss(&mut self, session: u64) {
        let _ = self.say(Body::Dismiss { session, data: SessionData::default() });
    }
}
