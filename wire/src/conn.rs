//! The native protocol of one connection: a state machine without sockets, clocks or tasks.
//!
//! The owner passes the time and the bytes to [`Conn::next`] and takes one [`Event`] at a time until `None`; writes what
//! [`Conn::chunks`] shows and confirms it with [`Conn::advance`]; and calls [`Conn::handle_timeout`] when
//! [`Conn::poll_timeout`] is due. Any order of these is allowed.
//!
//! ```text
//!            magic            hello            welcome
//!  server: Magic ──▶ Greeting ──────▶ Deciding ───────▶ Open ──▶ (closed by its owner)
//!  client:           Greeting ──────────────────────▶ Open
//!                             welcome or go-away
//! ```

mod queue;
mod yamux;

use std::io::IoSlice;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use crate::close::CloseReason;
use crate::code::Code;
use crate::frame::{Extension, Frame, GoAway, HEADER, Header, Hello, Role, VERSIONS, Welcome};
use crate::limits::{self, Limits};
use queue::Queue;

/// The first bytes that a client sends (PROTOCOL 1.2).
pub const MAGIC: &[u8; 8] = b"LIMES\r\n1";

/// What the peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A client introduces itself; the owner answers with [`Conn::welcome`] or a go-away.
    Hello(Box<Hello>),
    /// The gateway has accepted this client.
    Welcome(Box<Welcome>),
    /// The peer refuses the connection or leaves.
    GoAway(GoAway),
    /// Any other frame.
    Frame(Frame),
    /// Bytes of yamux frames, in order, split anywhere.
    Yamux(Bytes),
}

/// The phase of the connection; see the diagram at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Magic,
    Greeting,
    Deciding,
    Open,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    is_client: bool,
    phase: Phase,
    limits: Limits,
    /// The client's role: decides whether mesh frames are allowed.
    role: Role,
    /// The version of both sides, chosen by the accepting side.
    version: u16,
    keepalive: std::time::Duration,
    began: Instant,
    heard: Instant,
    pinged: bool,
    inbound: yamux::Inbound,
    queue: Queue,
}

impl Conn {
    /// The dialling side. Its magic and hello are queued.
    pub fn client(hello: Hello, now: Instant, limits: Limits) -> Self {
        let mut conn = Conn::new(true, hello.role, now, limits);
        if !hello.keepalive.is_zero() {
            conn.keepalive = hello.keepalive.max(limits::KEEPALIVE_MIN);
        }
        conn.queue.raw(MAGIC);
        conn.queue.frame(Frame::Hello(Box::new(hello)));
        conn
    }

    /// The accepting side.
    pub fn server(now: Instant, limits: Limits) -> Self {
        Conn::new(false, Role::Edge, now, limits)
    }

    fn new(is_client: bool, role: Role, now: Instant, limits: Limits) -> Self {
        Conn {
            is_client,
            phase: if is_client { Phase::Greeting } else { Phase::Magic },
            limits,
            role,
            version: VERSIONS.1,
            keepalive: limits.keepalive,
            began: now,
            heard: now,
            pinged: false,
            inbound: yamux::Inbound::default(),
            queue: Queue::default(),
        }
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether this side dialled.
    pub fn is_client(&self) -> bool {
        self.is_client
    }

    /// The limits of the connection.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether the peer was pinged and has sent nothing since.
    pub fn missed_keepalive(&self) -> bool {
        self.pinged
    }

    /// Parses the front of `bytes` and gives the next event; `None` if more bytes are needed. Bodies are slices of
    /// `bytes`, not copies.
    ///
    /// # Errors
    /// The peer broke a rule: queue a go-away with the reason, write it and close.
    pub fn next(&mut self, now: Instant, bytes: &mut BytesMut) -> Result<Option<Event>, CloseReason> {
        if !bytes.is_empty() {
            self.heard = now;
            self.pinged = false;
        }
        if self.phase == Phase::Magic && !self.take_magic(bytes)? {
            return Ok(None);
        }
        loop {
            if let Some(part) = self.take_yamux(bytes)? {
                return Ok(Some(Event::Yamux(part)));
            }
            let Some(frame) = self.take_frame(bytes)? else {
                return Ok(None);
            };
            if let Some(event) = self.admit(frame)? {
                return Ok(Some(event));
            }
        }
    }

    /// How many bytes the frame at the front of `bytes` still lacks, if that is known. The owner can reserve memory
    /// for exactly one large frame.
    pub fn need(&self, bytes: &BytesMut) -> Option<usize> {
        let header = bytes.first_chunk::<HEADER>().filter(|header| header[0] != 0)?;
        let frame = || Header::decode(*header).frame_len().saturating_sub(bytes.len());
        (self.phase != Phase::Magic).then(frame)
    }

    fn take_magic(&mut self, bytes: &mut BytesMut) -> Result<bool, CloseReason> {
        // PROTOCOL 1.2.
        let seen = bytes.len().min(MAGIC.len());
        if bytes[..seen] != MAGIC[..seen] {
            return Err(CloseReason::protocol("the first bytes are not those of the limes protocol"));
        }
        if seen < MAGIC.len() {
            return Ok(false);
        }
        bytes.advance(MAGIC.len());
        self.phase = Phase::Greeting;
        Ok(true)
    }

    fn take_yamux(&mut self, bytes: &mut BytesMut) -> Result<Option<Bytes>, CloseReason> {
        let Some(part) = self.inbound.take(bytes)? else {
            return Ok(None);
        };
        // PROTOCOL 7.1.
        if self.phase != Phase::Open {
            return Err(CloseReason::protocol("a stream before the end of the handshake"));
        }
        Ok(Some(part))
    }

    /// Takes one whole frame; skips unknown frames that may be ignored.
    fn take_frame(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, CloseReason> {
        loop {
            let Some(header) = bytes.first_chunk::<HEADER>() else {
                return Ok(None);
            };
            if header[0] == 0 {
                return Ok(None);
            }
            let header = Header::decode(*header);
            // PROTOCOL 2.4: before any of it is taken.
            let max = if self.phase == Phase::Open { self.limits.body } else { limits::META_MAX };
            if header.body as usize > max {
                let text = format!("a frame's body of {} bytes is over the limit of {max}", header.body);
                return Err(CloseReason::us(Code::TOO_LARGE, text));
            }
            if bytes.len() < header.frame_len() {
                return Ok(None);
            }
            bytes.advance(HEADER);
            let head = bytes.split_to(usize::from(header.head)).freeze();
            let body = bytes.split_to(header.body as usize).freeze();
            match Frame::decode(header, head, body) {
                Ok(Some(frame)) => return Ok(Some(frame)),
                Ok(None) => {}
                Err(error) => {
                    let text = format!("frame type {:#04x}: {error}", header.kind);
                    return Err(CloseReason::protocol(text));
                }
            }
        }
    }

    /// Checks a frame against the phase (PROTOCOL 3.3) and the roles (2.7); keepalive is answered here
    /// (3.8).
    fn admit(&mut self, frame: Frame) -> Result<Option<Event>, CloseReason> {
        match (self.phase, frame) {
            (_, Frame::GoAway(goaway)) => Ok(Some(Event::GoAway(goaway))),
            (Phase::Greeting, Frame::Hello(hello)) if !self.is_client => self.greet(hello).map(Some),
            (Phase::Greeting, Frame::Welcome(welcome)) if self.is_client => {
                self.settle(&welcome)?;
                Ok(Some(Event::Welcome(welcome)))
            }
            (Phase::Open, Frame::Ping { nonce }) => {
                self.queue.frame(Frame::Pong { nonce });
                Ok(None)
            }
            (Phase::Open, Frame::Pong { .. }) => Ok(None),
            (Phase::Open, Frame::Hello(_) | Frame::Welcome(_)) => {
                Err(CloseReason::protocol("a second handshake on one connection"))
            }
            (Phase::Open, Frame::Extension(Extension { kind, .. })) if self.role != Role::Node => {
                Err(CloseReason::protocol(format!("frame type {kind:#04x} is only for nodes")))
            }
            (Phase::Open, frame) => Ok(Some(Event::Frame(frame))),
            (phase, frame) => {
                let text = format!("{} in the phase {phase:?} of the handshake", frame.name());
                Err(CloseReason::protocol(text))
            }
        }
    }

    fn greet(&mut self, hello: Box<Hello>) -> Result<Event, CloseReason> {
        let (low, high) = hello.versions;
        // PROTOCOL 3.4.
        if low > high || low > VERSIONS.1 || high < VERSIONS.0 {
            let text = format!(
                "the peer supports versions {low} to {high}, this side {} to {}",
                VERSIONS.0, VERSIONS.1
            );
            return Err(CloseReason::us(Code::VERSION, text));
        }
        self.role = hello.role;
        // The highest of both ranges (PROTOCOL 3.4).
        self.version = high.min(VERSIONS.1);
        if !hello.keepalive.is_zero() {
            // PROTOCOL 3.8.
            self.keepalive = hello.keepalive.clamp(limits::KEEPALIVE_MIN, self.limits.keepalive);
        }
        self.phase = Phase::Deciding;
        Ok(Event::Hello(hello))
    }

    fn settle(&mut self, welcome: &Welcome) -> Result<(), CloseReason> {
        if welcome.version < VERSIONS.0 || welcome.version > VERSIONS.1 {
            let text =
                format!("the gateway chose version {}, which this side does not support", welcome.version);
            return Err(CloseReason::us(Code::VERSION, text));
        }
        self.keepalive = welcome.keepalive.max(limits::KEEPALIVE_MIN);
        self.phase = Phase::Open;
        Ok(())
    }

    /// Accepts the client that sent its hello; fills in version, keepalive and limits.
    pub fn welcome(&mut self, mut welcome: Welcome) {
        if self.phase == Phase::Deciding {
            welcome.version = self.version;
            welcome.keepalive = self.keepalive;
            welcome.max_body = u32::try_from(self.limits.body).unwrap_or(u32::MAX);
            welcome.max_calls = u32::try_from(self.limits.calls).unwrap_or(u32::MAX);
            welcome.max_queued = u32::try_from(self.limits.queued).unwrap_or(u32::MAX);
            welcome.max_streams = u32::try_from(self.limits.streams).unwrap_or(u32::MAX);
            self.phase = Phase::Open;
            self.queue.frame(Frame::Welcome(Box::new(welcome)));
        }
    }

    /// Queues a frame. Bodies up to 512 bytes are copied behind their heads, larger ones are not copied.
    pub fn send(&mut self, frame: Frame) {
        self.queue.frame(frame);
    }

    /// Queues bytes of yamux frames; they are written in whole frames, after all limes frames.
    ///
    /// # Errors
    /// One of the frames ends the yamux session, because the peer has broken its rules.
    pub fn send_yamux(&mut self, bytes: BytesMut) -> Result<(), CloseReason> {
        // PROTOCOL 7.9.
        match self.queue.yamux(bytes) {
            true => Err(CloseReason::protocol("yamux: a frame that its session does not allow")),
            false => Ok(()),
        }
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.queue.bytes()
    }

    /// Fills `slices` with the next bytes to write, in order, for one vectored write; gives how many slices were
    /// filled, 0 if nothing waits.
    pub fn chunks<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.queue.chunks(slices)
    }

    /// Confirms that the first `written` bytes of [`Conn::chunks`] were written.
    pub fn advance(&mut self, written: usize) {
        self.queue.advance(written);
    }

    /// When [`Conn::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Open if self.pinged => self.heard + self.keepalive * 2,
            Phase::Open => self.heard + self.keepalive,
            _ => self.began + self.limits.handshake,
        }
    }

    /// Does what is due: sends a ping after a silence.
    ///
    /// # Errors
    /// The handshake took too long, or the peer was silent for two keepalives.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), CloseReason> {
        if now < self.poll_timeout() {
            return Ok(());
        }
        match self.phase {
            // PROTOCOL 3.8.
            Phase::Open if self.pinged => {
                let text =
                    format!("the peer has sent nothing for {:?}", now.saturating_duration_since(self.heard));
                Err(CloseReason::us(Code::KEEPALIVE, text))
            }
            Phase::Open => {
                self.pinged = true;
                self.queue.frame(Frame::Ping { nonce: 0 });
                Ok(())
            }
            // PROTOCOL 3.7.
            phase => {
                let text = format!("no handshake within {:?} (phase {phase:?})", self.limits.handshake);
                Err(CloseReason::us(Code::HANDSHAKE_TIMEOUT, text))
            }
        }
    }
}
