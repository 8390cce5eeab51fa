//! What the driver needs of a wire protocol.

use std::io::IoSlice;
use std::task::Context;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::close::CloseReason;

/// One connection's protocol as [`drive`](super::drive) runs it: a state machine that does no IO.
///
/// The driver hands it the bytes that it reads and the current time, passes its events to the
/// [`Handler`](super::Handler), and writes what it queues.
pub trait Protocol: Sized + Send + 'static {
    /// What the peer did, as the handler sees it.
    type Event;

    /// Whether the protocol has a message that tells the peer why the connection ends. Without one, a peer that
    /// misses a deadline is disconnected at once: nothing could be written to it.
    const HAS_FAREWELL: bool;

    /// How many bytes the frame at the front of `bytes` still lacks, if that is known.
    fn need(&self, bytes: &BytesMut) -> Option<usize>;

    /// Takes one event from the front of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The peer broke a rule, or said farewell: the connection is to be closed.
    fn next_event(&mut self, now: Instant, bytes: &mut BytesMut) -> Result<Option<Self::Event>, CloseReason>;

    /// Whether the socket must not be read, because the protocol still holds too much of what was read before.
    fn blocks_input(&self) -> bool {
        false
    }

    /// Runs what the protocol does beside frames, such as a stream multiplexer. Called in each turn of the driver;
    /// it registers the task's waker for its own work. Appends to `events`; true: something was done.
    ///
    /// # Errors
    /// The peer broke a rule; the events are delivered nevertheless.
    fn poll_side(
        &mut self,
        _: &mut Context<'_>,
        _events: &mut Vec<Self::Event>,
    ) -> Result<bool, CloseReason> {
        Ok(false)
    }

    /// Bytes that wait to be written.
    fn queued(&self) -> usize;

    /// Fills `slices` with the next bytes to write, in order; gives how many slices were filled, 0 if nothing waits.
    fn chunks<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize;

    /// Removes the first `written` bytes of what [`Protocol::chunks`] showed.
    fn advance(&mut self, written: usize);

    /// When [`Protocol::handle_timeout`] is due.
    fn poll_timeout(&self) -> Instant;

    /// Does what is due at `now`, for example a keepalive, and appends the events of it.
    ///
    /// # Errors
    /// The peer missed a deadline.
    fn handle_timeout(&mut self, now: Instant, events: &mut Vec<Self::Event>) -> Result<(), CloseReason>;

    /// How long the peer may accept no bytes while output waits before it is disconnected; `None`: for ever.
    fn stall_limit(&self) -> Option<Duration> {
        None
    }

    /// Queues the message that tells the peer why this side closes the connection, if the protocol has one.
    fn farewell(&mut self, _: &CloseReason) {}

    /// The reason that the peer gave for closing the connection, if it gave one.
    fn peer_reason(&mut self) -> Option<CloseReason> {
        None
    }

    /// Releases memory that bursts left behind; the connection has been idle for a while.
    fn settle(&mut self) {}

    /// Fails everything that waits for the connection: it is over.
    fn shut(&mut self) {}
}
