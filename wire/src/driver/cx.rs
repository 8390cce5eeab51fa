//! What a handler may do to its connection.

use std::collections::VecDeque;
use std::time::Instant;

use super::mux::Opening;
use crate::frame::{Frame, GoAway, Welcome};
use crate::{CloseReason, Code, Conn};

use super::Stream;

/// The connection as its handler sees it, for the length of one call.
pub struct Cx<'a> {
    pub(super) conn: &'a mut Conn,
    pub(super) now: Instant,
    pub(super) wake: &'a mut Option<Instant>,
    pub(super) openings: &'a mut VecDeque<Opening>,
    pub(super) closing: &'a mut Option<CloseReason>,
    pub(super) streams: usize,
}

impl Cx<'_> {
    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Queues a frame; gives the bytes that wait to be written.
    pub fn send(&mut self, frame: Frame) -> usize {
        self.conn.send(frame);
        self.conn.queued()
    }

    /// Accepts the client.
    pub fn welcome(&mut self, welcome: Welcome) {
        self.conn.welcome(welcome);
    }

    /// Says good-bye, writes what is queued within [`LINGER`](crate::limits::LINGER), closes.
    pub fn close(&mut self, goaway: GoAway) {
        if self.closing.is_none() {
            *self.closing = Some(CloseReason::us(goaway.code, goaway.text.clone()));
            self.conn.send(Frame::GoAway(goaway));
        }
    }

    /// Opens a stream; `opened` is called with it, or with the reason why not.
    pub fn open_stream(&mut self, opened: impl FnOnce(Result<Stream, Code>) + Send + 'static) {
        self.openings.push_back(Box::new(opened));
    }

    /// Asks for [`Handler::on_timeout`](super::Handler::on_timeout) at this time or a little later;
    /// the earliest of all wishes counts and is forgotten when it has come.
    pub fn wake_at(&mut self, at: Instant) {
        if self.wake.is_none_or(|wake| at < wake) {
            *self.wake = Some(at);
        }
    }

    /// Streams that are open on this connection.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.conn.queued()
    }
}
