//! The geminio protocol in the driver.
//!
//! A peer that reads nothing is not disconnected while it sends heartbeats: the clients of this protocol stop reading
//! whenever one of their streams is not read. Meanwhile messages wait in the mailbox, and their senders learn that the
//! peer is busy.

use std::io::IoSlice;
use std::time::Instant;

use bytes::BytesMut;

use super::handler::HandlerCx;
use super::protocol::Protocol;
use crate::close::CloseReason;
use crate::code::Code;
use crate::geminio::{Conn, Event};

/// A geminio connection as its handler sees it.
pub type GeminioCx<'a> = HandlerCx<'a, Conn>;

// Inlined, because the generic driver is compiled in the crates that use it.
impl Protocol for Conn {
    /// [`Event::Over`] closes the connection and is not delivered.
    type Event = Event;

    const HAS_FAREWELL: bool = false;

    #[inline]
    fn need(&self, bytes: &BytesMut) -> Option<usize> {
        Conn::need(self, bytes)
    }

    #[inline]
    fn next_event(&mut self, now: Instant, bytes: &mut BytesMut) -> Result<Option<Event>, CloseReason> {
        match self.next(now, bytes)? {
            Some(Event::Over) => Err(CloseReason::peer(Code::OK, "it said farewell")),
            event => Ok(event),
        }
    }

    #[inline]
    fn queued(&self) -> usize {
        Conn::queued(self)
    }

    #[inline]
    fn chunks<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        Conn::chunks(self, slices)
    }

    #[inline]
    fn advance(&mut self, written: usize) {
        Conn::advance(self, written);
    }

    #[inline]
    fn poll_timeout(&self) -> Instant {
        Conn::poll_timeout(self)
    }

    fn handle_timeout(&mut self, now: Instant, events: &mut Vec<Event>) -> Result<(), CloseReason> {
        Conn::handle_timeout(self, now)?;
        events.extend(std::iter::from_fn(|| self.pop_expired()));
        Ok(())
    }
}

impl GeminioCx<'_> {
    /// Writes what is queued within [`LINGER`](crate::limits::LINGER) and closes. The protocol has no message that
    /// tells the peer why.
    pub fn close(&mut self, reason: CloseReason) {
        self.closing.get_or_insert(reason);
    }
}
