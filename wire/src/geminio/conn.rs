//! The gateway's side of one connection.
//!
//! As with [`crate::Conn`], the owner gives the time and the bytes to [`Conn::next`] and takes one
//! [`Event`] at a time until `None`; writes what [`Conn::chunks`] shows and confirms it with
//! [`Conn::advance`]; and calls [`Conn::handle_timeout`] when [`Conn::poll_timeout`] is due.
//!
//! ```text
//!          Conn             welcome             DisConn
//!  Silent ──────▶ Deciding ─────────▶ Open ───────────────▶ Over
//!                     └──── refuse ─────────────────────────▶
//! ```

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::data::{ConnData, SessionData};
use super::header::{BODY_MAX, HEADER, Header};
use super::malformed::Malformed;
use super::packet::{Body, DEFAULT_SESSION, Packet};
use super::streams::{Change, DISMISS, Says, Streams};
use super::word::Word;
use crate::close::CloseReason;
use crate::code::Code;
use crate::limits::Limits;

/// Largest body before the connection is accepted, in bytes: the meta in base64.
pub const HANDSHAKE_BODY_MAX: usize = 128 << 10;

/// Who wants to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The id field is only a wish.
    pub acquire: bool,
    /// The id wished for; 0 for none.
    pub client: u64,
    /// What the peer says about itself.
    pub meta: Bytes,
}

/// What has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client says who it is; answer with [`Conn::welcome`] or [`Conn::refuse`].
    Hello(Hello),
    /// Something on a stream, the default one included; the number is the packet's id.
    Word(u64, u64, Word),
    /// The peer opens a stream; answer with [`Conn::accept`] or [`Conn::dismiss`].
    Opening {
        /// The stream.
        session: u64,
        /// Whom it is for.
        peer: String,
        /// For the receiver.
        meta: Bytes,
    },
    /// The peer has taken a stream that was offered to it.
    Accepted(u64),
    /// The stream has ended for the peer; close the other half if that has not been done.
    Ended(u64),
    /// The peer is about to close: ask it nothing any more. What it sent on streams still comes.
    Leaving,
    /// The peer has said farewell; write what is queued and close.
    Over,
}

/// How long a peer that closes waits for what it has asked before: less than the 30 s that it bears.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long it may go on answering what it was asked. Not longer: the reference's client for clusters can
/// call nobody of this node until it has closed.
const LAST_HANDLERS: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Silent,
    Deciding,
    Open,
    Over,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    phase: Phase,
    limits: Limits,
    began: Instant,
    heard: Instant,
    /// Bytes that were not understood when [`Conn::next`] was last called: they are not heard anew.
    left: usize,
    /// The heartbeat's interval.
    interval: Duration,
    /// The Conn packet's id.
    hello: u64,
    /// The peer has said Dismiss for the default stream; it is cut off then.
    leaving: Option<Instant>,
    /// Its calls and messages on the default stream that are not answered yet.
    unanswered: usize,
    /// Our calls on the default stream that it has not answered yet, which it could not after our Dismiss. A
    /// message is no concern: it has arrived, and without an answer it is known to be lost.
    owed: usize,
    /// Since then the peer waits for our Dismiss of the default stream, which follows the last answer.
    held: Option<Instant>,
    streams: Streams,
    says: Says,
    /// What timers have brought about.
    due: VecDeque<Event>,
}

impl Conn {
    /// A connection that was accepted at `now`.
    pub fn server(now: Instant, limits: Limits) -> Self {
        Conn {
            phase: Phase::Silent,
            limits,
            began: now,
            heard: now,
            left: 0,
            interval: interval(1),
            hello: 0,
            leaving: None,
            unanswered: 0,
            owed: 0,
            held: None,
            streams: Streams::default(),
            says: Says::default(),
            due: VecDeque::new(),
        }
    }

    /// Whether the peer has been accepted and has not left.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Streams that are not forgotten yet.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.says.output.bytes()
    }

    fn body_max(&self) -> usize {
        match self.phase {
            Phase::Silent | Phase::Deciding => HANDSHAKE_BODY_MAX,
            Phase::Open | Phase::Over => BODY_MAX,
        }
    }

    /// Bytes that the packet at the front of `bytes` still lacks; 0 if that is not known.
    pub fn need(&self, bytes: &[u8]) -> usize {
        let header = bytes.first_chunk::<HEADER>().and_then(|header| Header::decode(*header).ok());
        let len = header.map_or(0, |header| header.len);
        if len > self.body_max() { 0 } else { (HEADER + len).saturating_sub(bytes.len()) }
    }

    /// Takes what can be understood from the front of `bytes` and gives the next event; `None` when
    /// more bytes are needed.
    ///
    /// # Errors
    /// The peer broke a rule: close the connection, there is nothing to say to it.
    pub fn next(&mut self, now: Instant, bytes: &mut BytesMut) -> Result<Option<Event>, CloseReason> {
        if bytes.len() > self.left {
            self.heard = now;
        }
        let event = self.take_event(now, bytes);
        self.left = bytes.len();
        event
    }

    fn take_event(&mut self, now: Instant, bytes: &mut BytesMut) -> Result<Option<Event>, CloseReason> {
        loop {
            if let Some(event) = self.due.pop_front() {
                return Ok(Some(event));
            }
            if self.phase == Phase::Over {
                bytes.clear();
                return Ok(None);
            }
            let Some(packet) = self.take_packet(bytes).map_err(broken)? else { return Ok(None) };
            if let Some(event) = self.heed(now, packet)? {
                return Ok(Some(event));
            }
        }
    }

    fn take_packet(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, Malformed> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let header = Header::decode(*header)?;
        let max = self.body_max();
        if header.len > max {
            return Err(Malformed::TooLarge(header.len, max));
        }
        if bytes.len() < HEADER + header.len {
            return Ok(None);
        }
        bytes.advance(HEADER);
        let body = bytes.split_to(header.len).freeze();
        Packet::decode(header, body).map(Some)
    }

    fn heed(&mut self, now: Instant, packet: Packet) -> Result<Option<Event>, CloseReason> {
        let Packet { id, body } = packet;
        match (self.phase, body) {
            (Phase::Silent, Body::Conn { acquire, heartbeat, client, data }) => {
                (self.hello, self.interval, self.phase) = (id, interval(heartbeat), Phase::Deciding);
                Ok(Some(Event::Hello(Hello { acquire, client, meta: data.meta })))
            }
            (Phase::Silent, _) => Err(CloseReason::protocol("the first packet is not a Conn")),
            (_, Body::Conn { .. }) => Err(CloseReason::protocol("a second Conn")),
            (_, Body::DisConn) => {
                self.answer_farewell(id);
                Ok(Some(Event::Over))
            }
            // Sent before the ConnAck: dropped, as nothing may be.
            (Phase::Deciding | Phase::Over, _) => Ok(None),
            (Phase::Open, body) => self.heed_open(now, id, body),
        }
    }

    fn answer_farewell(&mut self, id: u64) {
        if self.phase == Phase::Open {
            let _ = self.says.say(Body::DisConn);
        }
        self.says.answer(id, Body::DisConnAck(ConnData::default()));
        self.phase = Phase::Over;
    }

    fn heed_open(&mut self, now: Instant, id: u64, body: Body) -> Result<Option<Event>, CloseReason> {
        let change = match body {
            Body::Heartbeat => {
                // One that reaches a client which is closing would make it drop the connection.
                if self.leaving.is_none() {
                    self.says.answer(id, Body::HeartbeatAck);
                }
                return Ok(None);
            }
            Body::Dismiss { session: DEFAULT_SESSION, .. } => return Ok(self.leave(now, id)),
            Body::Dismiss { session, .. } => self.streams.dismissed(now, id, session, &mut self.says),
            Body::DismissAck { session, .. } => {
                self.streams.dismiss_acked(session);
                return Ok(None);
            }
            Body::Session { acquire, negotiate, data } => {
                let Some(session) = self.streams.number(negotiate, acquire) else {
                    return Err(CloseReason::protocol("a stream's number is used twice"));
                };
                if self.streams.len() >= self.limits.streams || self.leaving.is_some() {
                    self.says.refuse_stream(id, negotiate, session);
                    return Ok(None);
                }
                self.streams.asked(id, negotiate, session);
                let SessionData { peer, meta, .. } = data;
                return Ok(Some(Event::Opening { session, peer, meta }));
            }
            Body::SessionAck { negotiate, .. } => self.streams.acked(negotiate),
            Body::On(session, word) => {
                let heard = session == DEFAULT_SESSION || self.streams.hears(session);
                if session == DEFAULT_SESSION {
                    self.unanswered += usize::from(matches!(word, Word::Request(_) | Word::Message(_)));
                    self.owed -= usize::from(matches!(word, Word::Response(_)) && self.owed > 0);
                    self.release(now);
                }
                return Ok(heard.then_some(Event::Word(session, id, word)));
            }
            // What only the other side says, or what nobody waits for.
            Body::Conn { .. }
            | Body::ConnAck { .. }
            | Body::DisConn
            | Body::DisConnAck(_)
            | Body::HeartbeatAck => return Ok(None),
        };
        Ok(change.map(event))
    }

    /// The peer closes: first of all its default stream. What it still waits for ends with our Dismiss.
    fn leave(&mut self, now: Instant, id: u64) -> Option<Event> {
        let (session, data) = (DEFAULT_SESSION, SessionData::default());
        self.says.answer(id, Body::DismissAck { session, data: data.clone() });
        if self.leaving.is_some() {
            return None;
        }
        self.leaving = Some(now + DISMISS);
        self.held = Some(now);
        self.release(now);
        Some(Event::Leaving)
    }

    /// When our Dismiss of the default stream is due, if the peer waits for it.
    fn held_until(&self) -> Option<Instant> {
        let since = self.held?;
        let handlers = if self.owed > 0 { since + LAST_HANDLERS } else { since };
        Some(if self.unanswered > 0 { since + LAST_ANSWERS } else { handlers })
    }

    /// Says it once the peer has all its answers and has given all its own, or has had time for that.
    fn release(&mut self, now: Instant) {
        if self.held_until().is_some_and(|until| now >= until) {
            self.held = None;
            let (session, data) = (DEFAULT_SESSION, SessionData::default());
            let _ = self.says.say(Body::Dismiss { session, data });
        }
    }

    /// Accepts the client under an id.
    pub fn welcome(&mut self, client: u64) {
        if self.phase == Phase::Deciding {
            let ack = Body::ConnAck { refused: false, client, data: ConnData::default() };
            self.says.answer(self.hello, ack);
            self.phase = Phase::Open;
        }
    }

    /// Turns the client away with a text; close when it is written.
    pub fn refuse(&mut self, client: u64, error: &str) {
        if self.phase == Phase::Deciding {
            // Without a text the client would take it for a success.
            let error = if error.is_empty() { "refused".to_owned() } else { error.to_owned() };
            let data = ConnData { error, ..ConnData::default() };
            self.says.answer(self.hello, Body::ConnAck { refused: true, client, data });
            let _ = self.says.say(Body::DisConn);
        }
        self.phase = Phase::Over;
    }

    /// Says something on a stream, the default one included. On one that is not open it is dropped.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`]: the peer would end the connection; nothing is sent.
    pub fn send(&mut self, now: Instant, session: u64, id: u64, word: Word) -> Result<(), Malformed> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        if session == DEFAULT_SESSION {
            let answers = matches!(word, Word::Response(_) | Word::MessageAck(_));
            let asks = matches!(word, Word::Request(_));
            self.says.word(session, id, word)?;
            self.owed += usize::from(asks);
            if answers {
                self.settle(now);
            }
            return Ok(());
        }
        if self.streams.sends(now, session) {
            return self.says.word(session, id, word);
        }
        Ok(())
    }

    /// A call or message of the peer on the default stream is settled, also if it gets no answer.
    pub fn settle(&mut self, now: Instant) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.release(now);
    }

    /// Takes a stream that the peer has opened. False: it does not wait for that any more.
    pub fn accept(&mut self, session: u64) -> bool {
        self.streams.accept(session, &mut self.says)
    }

    /// Offers the peer a stream and gives its id; nothing may be sent before [`Event::Accepted`].
    ///
    /// # Errors
    /// [`Code::BUSY`] with too many streams, [`Code::TOO_LARGE`] for the meta, or [`Code::GONE`].
    pub fn offer(&mut self, now: Instant, peer: String, meta: Bytes) -> Result<u64, Code> {
        if self.phase != Phase::Open || self.leaving.is_some() {
            return Err(Code::GONE);
        }
        if self.streams.len() >= self.limits.streams {
            return Err(Code::BUSY);
        }
        let data = SessionData { peer, meta, ..SessionData::default() };
        self.streams.offer(now, data, &mut self.says).map_err(|_| Code::TOO_LARGE)
    }

    /// Closes a stream from this side; one that the peer has just opened is refused.
    pub fn dismiss(&mut self, now: Instant, session: u64) {
        self.streams.dismiss(now, session, &mut self.says);
    }

    /// When [`Conn::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        let peer = match self.phase {
            Phase::Silent | Phase::Deciding => self.began + self.limits.handshake,
            Phase::Open | Phase::Over => self.heard + 2 * self.interval,
        };
        let streams = self.streams.due().map_or(peer, |due| due.min(peer));
        [self.leaving, self.held_until()].into_iter().flatten().fold(streams, Instant::min)
    }

    /// Does what is due; call [`Conn::next`] afterwards.
    ///
    /// # Errors
    /// The peer was silent for too long: close the connection at once, its socket included.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), CloseReason> {
        match self.phase {
            Phase::Silent | Phase::Deciding if now >= self.began + self.limits.handshake => {
                let text = format!("no whole handshake within {:?}", self.limits.handshake);
                return Err(CloseReason::us(Code::HANDSHAKE_TIMEOUT, text));
            }
            Phase::Open | Phase::Over if now >= self.heard + 2 * self.interval => {
                let text = format!("silent for two heartbeats of {:?}", self.interval);
                return Err(CloseReason::us(Code::KEEPALIVE, text));
            }
            _ => {}
        }
        if self.leaving.is_some_and(|until| now >= until) {
            return Err(CloseReason::peer(Code::OK, "it closed, but did not say farewell"));
        }
        self.release(now);
        self.due.extend(self.streams.expire(now, &mut self.says).into_iter().map(event));
        Ok(())
    }

    /// The next event that [`Conn::handle_timeout`] caused; [`Conn::next`] gives those that are not taken here.
    #[cfg(feature = "tokio")]
    pub(crate) fn pop_expired(&mut self) -> Option<Event> {
        self.due.pop_front()
    }

    /// Fills `slices` with what is to be written, in order; gives how many were filled.
    pub fn chunks<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.says.output.chunks(slices)
    }

    /// So many bytes of what was shown are written.
    pub fn advance(&mut self, written: usize) {
        self.says.output.advance(written);
    }
}

fn event(change: Change) -> Event {
    match change {
        Change::Accepted(session) => Event::Accepted(session),
        Change::Ended(session) => Event::Ended(session),
    }
}

fn broken(malformed: Malformed) -> CloseReason {
    let code = match malformed {
        Malformed::TooLarge(..) => Code::TOO_LARGE,
        _ => Code::PROTOCOL,
    };
    CloseReason::us(code, malformed.to_string())
}

/// The heartbeat's interval for a code of two bits.
fn interval(code: u8) -> Duration {
    Duration::from_secs(5 << (2 * u32::from(code & 3)))
}
