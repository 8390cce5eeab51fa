//! The native protocol in the driver: frames by [`Conn`], streams by yamux.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::handler::HandlerCx;
use super::mux::{Mux, Opening};
use super::protocol::Protocol;
use super::stream::Stream;
use crate::close::CloseReason;
use crate::code::Code;
use crate::conn::Conn;
use crate::conn::Event;
use crate::frame::{Frame, GoAway, Hello, Welcome};
use crate::limits::OUTPUT_SOFT_MAX;

/// A native connection as its handler sees it.
pub type Cx<'a> = HandlerCx<'a, Native>;

/// What the peer of a native connection did.
#[derive(Debug)]
pub enum PeerEvent {
    /// A client introduces itself; answer with [`Cx::welcome`] or [`Cx::close`], now or later.
    Hello(Box<Hello>),
    /// The gateway has accepted this client.
    Welcome(Box<Welcome>),
    /// A frame after the handshake.
    Frame(Frame),
    /// The peer refuses the connection (before the welcome) or leaves.
    GoAway(GoAway),
    /// The peer opened a stream.
    Stream(Stream),
    /// The peer was pinged after a silence (`true`), or has sent something again (`false`).
    Silence(bool),
}

/// One native connection.
pub struct Native {
    conn: Conn,
    /// Made when the first stream is opened.
    mux: Option<Box<Mux>>,
    /// Streams that the handler asked for.
    openings: VecDeque<Opening>,
    /// The go-away of the peer.
    goaway: Option<GoAway>,
    /// What was last reported to the handler about the peer's silence.
    silent: bool,
}

impl From<Conn> for Native {
    fn from(conn: Conn) -> Self {
        Native { conn, mux: None, openings: VecDeque::new(), goaway: None, silent: false }
    }
}

impl Native {
    #[inline]
    fn mux<'a>(mux: &'a mut Option<Box<Mux>>, conn: &Conn) -> &'a mut Mux {
        mux.get_or_insert_with(|| Box::new(Mux::new(conn.is_client(), conn.limits().streams)))
    }

    #[inline]
    fn poll_streams(
        &mut self,
        cx: &mut Context<'_>,
        events: &mut Vec<PeerEvent>,
    ) -> Result<bool, CloseReason> {
        if self.mux.is_none() && self.openings.is_empty() {
            return Ok(false);
        }
        let mux = Self::mux(&mut self.mux, &self.conn);
        let polled = mux.poll(cx, &mut self.openings, |stream| events.push(PeerEvent::Stream(stream)));
        let mut progress = !events.is_empty();
        if self.conn.queued() < OUTPUT_SOFT_MAX {
            let bytes = mux.drain();
            if !bytes.is_empty() {
                progress = true;
                self.conn.send_yamux(bytes)?;
            }
        }
        polled.map(|()| progress)
    }

    #[inline]
    fn poll_silence(&mut self, events: &mut Vec<PeerEvent>) -> bool {
        let silent = self.conn.missed_keepalive();
        let changed = silent != self.silent;
        if changed {
            self.silent = silent;
            events.push(PeerEvent::Silence(silent));
        }
        changed
    }
}

// Inlined, because the generic driver is compiled in the crates that use it.
impl Protocol for Native {
    type Event = PeerEvent;

    const HAS_FAREWELL: bool = true;

    #[inline]
    fn need(&self, bytes: &BytesMut) -> Option<usize> {
        self.conn.need(bytes)
    }

    #[inline(always)]
    fn next_event(&mut self, now: Instant, bytes: &mut BytesMut) -> Result<Option<PeerEvent>, CloseReason> {
        loop {
            let Some(event) = self.conn.next(now, bytes)? else { return Ok(None) };
            return Ok(Some(match event {
                Event::Frame(frame) => PeerEvent::Frame(frame),
                Event::Yamux(bytes) => {
                    Self::mux(&mut self.mux, &self.conn).feed(bytes);
                    continue;
                }
                Event::Hello(mut hello) => {
                    // The session keeps both; a slice would keep the memory of the whole read.
                    hello.meta = Bytes::copy_from_slice(&hello.meta);
                    hello.ticket = Bytes::copy_from_slice(&hello.ticket);
                    PeerEvent::Hello(hello)
                }
                Event::Welcome(welcome) => PeerEvent::Welcome(welcome),
                Event::GoAway(goaway) => {
                    self.goaway = Some(goaway.clone());
                    PeerEvent::GoAway(goaway)
                }
            }));
        }
    }

    #[inline]
    fn blocks_input(&self) -> bool {
        self.mux.as_ref().is_some_and(|mux| mux.is_full())
    }

    #[inline]
    fn poll_side(&mut self, cx: &mut Context<'_>, events: &mut Vec<PeerEvent>) -> Result<bool, CloseReason> {
        let streams = self.poll_streams(cx, events)?;
        let silence = self.poll_silence(events);
        Ok(streams || silence)
    }

    #[inline]
    fn queued(&self) -> usize {
        self.conn.queued()
    }

    #[inline]
    fn chunks<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.conn.chunks(slices)
    }

    #[inline]
    fn advance(&mut self, written: usize) {
        self.conn.advance(written);
    }

    #[inline]
    fn poll_timeout(&self) -> Instant {
        self.conn.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant, _: &mut Vec<PeerEvent>) -> Result<(), CloseReason> {
        self.conn.handle_timeout(now)
    }

    #[inline]
    fn stall_limit(&self) -> Option<Duration> {
        Some(self.conn.limits().stall)
    }

    fn farewell(&mut self, reason: &CloseReason) {
        self.conn.send(Frame::GoAway(GoAway::new(reason.code, reason.text.clone())));
    }

    fn peer_reason(&mut self) -> Option<CloseReason> {
        self.goaway.take().map(|goaway| CloseReason::peer(goaway.code, goaway.text))
    }

    fn settle(&mut self) {
        if let Some(mux) = &self.mux {
            mux.settle();
        }
    }

    fn shut(&mut self) {
        self.mux = None;
        for opening in std::mem::take(&mut self.openings) {
            opening(Err(Code::GONE));
        }
    }
}

impl Cx<'_> {
    /// Queues a frame; gives the bytes that wait to be written.
    pub fn send(&mut self, frame: Frame) -> usize {
        self.conn.conn.send(frame);
        self.conn.conn.queued()
    }

    /// Accepts the client.
    pub fn welcome(&mut self, welcome: Welcome) {
        self.conn.conn.welcome(welcome);
    }

    /// Sends a go-away, writes what is queued within [`LINGER`](crate::limits::LINGER) and closes.
    pub fn close(&mut self, goaway: GoAway) {
        if self.closing.is_none() {
            *self.closing = Some(CloseReason::us(goaway.code, goaway.text.clone()));
            self.conn.conn.send(Frame::GoAway(goaway));
        }
    }

    /// Opens a stream and calls `opened` with it, or with the reason why it cannot be opened.
    pub fn open_stream(&mut self, opened: impl FnOnce(Result<Stream, Code>) + Send + 'static) {
        self.conn.openings.push_back(Box::new(opened));
    }

    /// Streams that are open on this connection.
    pub fn streams(&self) -> usize {
        self.conn.mux.as_ref().map_or(0, |mux| mux.open())
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.conn.conn.queued()
    }
}
