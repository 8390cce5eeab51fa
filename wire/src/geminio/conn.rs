//! The gateway's side of one geminio connection: a state machine without sockets, clocks or tasks.
//!
//! As with [`crate::Conn`], the owner passes the time and the bytes to [`Conn::next`] and takes one [`Event`] at a time
//! until `None`; writes what [`Conn::chunks`] shows and confirms it with [`Conn::advance`]; and calls
//! [`Conn::handle_timeout`] when [`Conn::poll_timeout`] is due.
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
use super::event::{Event, Hello};
use super::header::{BODY_MAX, HEADER, Header};
use super::malformed::Malformed;
use super::packet::{Body, DEFAULT_SESSION, Packet};
use super::stream_packet::StreamPacket;
use super::streams::{Change, DISMISS, Sender, Streams};
use crate::close::CloseReason;
use crate::code::Code;
use crate::limits::Limits;

/// Largest body before the connection is accepted, in bytes: the meta in base64.
pub const HANDSHAKE_BODY_MAX: usize = 128 << 10;

/// How long a closing peer waits for the answers to its requests: less than its own limit of 30 s.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long a closing peer may answer the requests that it received. Not longer: the reference's client for clusters
/// cannot call peers of this node until it has closed.
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
    /// Bytes that [`Conn::next`] left unparsed: they are no new sign of life.
    left: usize,
    /// The heartbeat interval.
    interval: Duration,
    /// The id of the Conn packet.
    hello: u64,
    /// When the connection is closed, once the peer has sent Dismiss for the default stream.
    leaving: Option<Instant>,
    /// The peer's calls and messages on the default stream that are not answered yet.
    unanswered: usize,
    /// Our calls on the default stream that the peer has not answered yet; after our Dismiss it could not. Messages are
    /// not counted: they have arrived, and one without an answer is known to be lost.
    pending_calls: usize,
    /// Since when the peer waits for our Dismiss of the default stream, which follows the last answer.
    held: Option<Instant>,
    streams: Streams,
    sender: Sender,
    /// Events that timers caused.
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
            pending_calls: 0,
            held: None,
            streams: Streams::default(),
            sender: Sender::default(),
            due: VecDeque::new(),
        }
    }

    /// Whether the peer was accepted and has not closed.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Streams that are not removed yet.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.sender.output.bytes()
    }

    fn body_max(&self) -> usize {
        match self.phase {
            Phase::Silent | Phase::Deciding => HANDSHAKE_BODY_MAX,
            Phase::Open | Phase::Over => BODY_MAX,
        }
    }

    /// How many bytes the packet at the front of `bytes` still lacks, if that is known.
    pub fn need(&self, bytes: &[u8]) -> Option<usize> {
        let header = Header::decode(*bytes.first_chunk::<HEADER>()?).ok()?;
        (header.len <= self.body_max()).then(|| (HEADER + header.len).saturating_sub(bytes.len()))
    }

    /// Parses the front of `bytes` and gives the next event; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The peer broke a rule: close the connection. The protocol has no message for it.
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
            if let Some(event) = self.handle_packet(now, packet)? {
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

    fn handle_packet(&mut self, now: Instant, packet: Packet) -> Result<Option<Event>, CloseReason> {
        let Packet { id, body } = packet;
        match (self.phase, body) {
            (Phase::Silent, Body::Conn { acquire, heartbeat, client, data }) => {
                (self.hello, self.interval, self.phase) = (id, interval(heartbeat), Phase::Deciding);
                Ok(Some(Event::Hello(Hello {
                    acquire,
                    client: (client != 0).then_some(client),
                    meta: data.meta,
                })))
            }
            (Phase::Silent, _) => Err(CloseReason::protocol("the first packet is not a Conn")),
            (_, Body::Conn { .. }) => Err(CloseReason::protocol("a second Conn")),
            (_, Body::DisConn) => {
                self.answer_farewell(id);
                Ok(Some(Event::Over))
            }
            // The peer may send nothing before the ConnAck: dropped.
            (Phase::Deciding | Phase::Over, _) => Ok(None),
            (Phase::Open, body) => self.handle_open(now, id, body),
        }
    }

    fn answer_farewell(&mut self, id: u64) {
        if self.phase == Phase::Open {
            let _ = self.sender.send(Body::DisConn);
        }
        self.sender.answer(id, Body::DisConnAck(ConnData::default()));
        self.phase = Phase::Over;
    }

    fn handle_open(&mut self, now: Instant, id: u64, body: Body) -> Result<Option<Event>, CloseReason> {
        let change = match body {
            Body::Heartbeat => {
                // A HeartbeatAck would make a closing client drop the connection.
                if self.leaving.is_none() {
                    self.sender.answer(id, Body::HeartbeatAck);
                }
                return Ok(None);
            }
            Body::Dismiss { session: DEFAULT_SESSION, .. } => return Ok(self.leave(now, id)),
            Body::Dismiss { session, .. } => self.streams.dismissed(now, id, session, &mut self.sender),
            Body::DismissAck { session, .. } => {
                self.streams.dismiss_acked(session);
                return Ok(None);
            }
            Body::Session { acquire, negotiate, data } => {
                let Some(session) = self.streams.number(negotiate, acquire) else {
                    return Err(CloseReason::protocol("a stream's number is used twice"));
                };
                if self.streams.len() >= self.limits.streams || self.leaving.is_some() {
                    self.sender.refuse_stream(id, negotiate, session);
                    return Ok(None);
                }
                self.streams.insert_requested(id, negotiate, session);
                let SessionData { peer, meta, .. } = data;
                return Ok(Some(Event::Opening { session, peer, meta }));
            }
            Body::SessionAck { negotiate, .. } => self.streams.acked(negotiate),
            Body::Stream(session, packet) => {
                let accepted = session == DEFAULT_SESSION || self.streams.accepts_from_peer(session);
                if session == DEFAULT_SESSION {
                    self.unanswered +=
                        usize::from(matches!(packet, StreamPacket::Request(_) | StreamPacket::Message(_)));
                    self.pending_calls -=
                        usize::from(matches!(packet, StreamPacket::Response(_)) && self.pending_calls > 0);
                    self.release(now);
                }
                return Ok(accepted.then_some(Event::StreamPacket(session, id, packet)));
            }
            // Packets that only the gateway sends, or that need no reaction.
            Body::Conn { .. }
            | Body::ConnAck { .. }
            | Body::DisConn
            | Body::DisConnAck(_)
            | Body::HeartbeatAck => return Ok(None),
        };
        Ok(change.map(event))
    }

    /// The peer begins to close with its default stream. Our Dismiss ends what it still waits for.
    fn leave(&mut self, now: Instant, id: u64) -> Option<Event> {
        let (session, data) = (DEFAULT_SESSION, SessionData::default());
        self.sender.answer(id, Body::DismissAck { session, data: data.clone() });
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
        let handlers = if self.pending_calls > 0 { since + LAST_HANDLERS } else { since };
        Some(if self.unanswered > 0 { since + LAST_ANSWERS } else { handlers })
    }

    /// Sends it once all requests of both sides are answered, or their time is up.
    fn release(&mut self, now: Instant) {
        if self.held_until().is_some_and(|until| now >= until) {
            self.held = None;
            let (session, data) = (DEFAULT_SESSION, SessionData::default());
            let _ = self.sender.send(Body::Dismiss { session, data });
        }
    }

    /// Accepts the client under an id.
    pub fn welcome(&mut self, client: u64) {
        if self.phase == Phase::Deciding {
            let ack = Body::ConnAck { refused: false, client, data: ConnData::default() };
            self.sender.answer(self.hello, ack);
            self.phase = Phase::Open;
        }
    }

    /// Refuses the client with a text; close when it is written.
    pub fn refuse(&mut self, client: u64, error: &str) {
        if self.phase == Phase::Deciding {
            // Clients take an answer without a text for a success.
            let error = if error.is_empty() { "refused".to_owned() } else { error.to_owned() };
            let data = ConnData { error, ..ConnData::default() };
            self.sender.answer(self.hello, Body::ConnAck { refused: true, client, data });
            let _ = self.sender.send(Body::DisConn);
        }
        self.phase = Phase::Over;
    }

    /// Sends a packet on a stream, the default one included; drops it if the stream is not open.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`]: the peer would close the connection; nothing is sent.
    pub fn send(
        &mut self,
        now: Instant,
        session: u64,
        id: u64,
        packet: StreamPacket,
    ) -> Result<(), Malformed> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        if session == DEFAULT_SESSION {
            let answers = matches!(packet, StreamPacket::Response(_) | StreamPacket::MessageAck(_));
            let asks = matches!(packet, StreamPacket::Request(_));
            self.sender.send_on(session, id, packet)?;
            self.pending_calls += usize::from(asks);
            if answers {
                self.settle(now);
            }
            return Ok(());
        }
        if self.streams.note_sent(now, session) {
            return self.sender.send_on(session, id, packet);
        }
        Ok(())
    }

    /// Marks a call or message of the peer on the default stream as finished, also if it gets no answer.
    pub fn settle(&mut self, now: Instant) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.release(now);
    }

    /// Accepts a stream that the peer has opened. False: the peer no longer waits.
    pub fn accept(&mut self, session: u64) -> bool {
        self.streams.accept(session, &mut self.sender)
    }

    /// Offers a stream to the peer and gives its id; nothing may be sent on it before [`Event::Accepted`].
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
        self.streams.offer(now, data, &mut self.sender).map_err(|_| Code::TOO_LARGE)
    }

    /// Closes a stream from this side; refuses one that the peer has just opened.
    pub fn dismiss(&mut self, now: Instant, session: u64) {
        self.streams.dismiss(now, session, &mut self.sender);
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
    /// The peer missed a deadline: close the socket at once.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), CloseReason> {
        match self.phase {
            Phase::Silent | Phase::Deciding if now >= self.began + self.limits.handshake => {
                let text = format!("no complete handshake within {:?}", self.limits.handshake);
                return Err(CloseReason::us(Code::HANDSHAKE_TIMEOUT, text));
            }
            Phase::Open | Phase::Over if now >= self.heard + 2 * self.interval => {
                let text = format!("the peer was silent for two heartbeats of {:?}", self.interval);
                return Err(CloseReason::us(Code::KEEPALIVE, text));
            }
            _ => {}
        }
        if self.leaving.is_some_and(|until| now >= until) {
            return Err(CloseReason::peer(Code::OK, "it closed its streams, but not the connection"));
        }
        self.release(now);
        self.due.extend(self.streams.expire(now, &mut self.sender).into_iter().map(event));
        Ok(())
    }

    /// The next event that [`Conn::handle_timeout`] caused. [`Conn::next`] gives those that are not taken here.
    #[cfg(feature = "tokio")]
    pub(crate) fn pop_expired(&mut self) -> Option<Event> {
        self.due.pop_front()
    }

    /// Fills `slices` with the next bytes to write, in order; gives how many slices were filled.
    pub fn chunks<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.sender.output.chunks(slices)
    }

    /// Removes the first `written` bytes of what [`Conn::chunks`] showed.
    pub fn advance(&mut self, written: usize) {
        self.sender.output.advance(written);
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

/// The heartbeat interval of a two-bit code.
fn interval(code: u8) -> Duration {
    Duration::from_secs(5 << (2 * u32::from(code & 3)))
}
