//! The owner of a connection, and what it may do to it.

use std::time::Instant;

use super::protocol::Protocol;
use crate::close::CloseReason;

/// What one connection's owner does. The task of [`drive`](super::drive) calls all methods; none may block.
pub trait Handler: Send + 'static {
    /// The protocol of the connection.
    type Protocol: Protocol;
    /// What other tasks send to this one by its [`Mailbox`](super::Mailbox).
    type Message: Send + 'static;

    /// The peer did something.
    fn on_event(
        &mut self,
        event: <Self::Protocol as Protocol>::Event,
        cx: &mut HandlerCx<'_, Self::Protocol>,
    );
    /// A message from the mailbox.
    fn on_message(&mut self, message: Self::Message, cx: &mut HandlerCx<'_, Self::Protocol>);
    /// A time given to [`HandlerCx::wake_at`] has come.
    fn on_timeout(&mut self, now: Instant, cx: &mut HandlerCx<'_, Self::Protocol>);
    /// Whether a large frame that arrives slowly may keep the memory of what has arrived of it. `false` closes the
    /// connection with [`Code::LIMIT`](crate::Code::LIMIT).
    fn may_hold(&self) -> bool {
        true
    }
    /// The connection begins to close: the driver reads nothing more from the peer, and has closed the mailbox, of
    /// which `unread` was never handled. Called exactly once, before the remaining output is written, which takes
    /// a while if the peer does not read.
    fn on_closing(&mut self, unread: Vec<Self::Message>);
    /// The connection is over. Called exactly once, after [`Handler::on_closing`].
    fn on_close(self, reason: CloseReason);
}

/// The connection as its handler sees it for the length of one call.
pub struct HandlerCx<'a, P> {
    /// The connection's protocol.
    pub conn: &'a mut P,
    pub(super) now: Instant,
    pub(super) wake: &'a mut Option<Instant>,
    pub(super) closing: &'a mut Option<CloseReason>,
    pub(super) paused: &'a mut bool,
}

impl<P> HandlerCx<'_, P> {
    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Asks for [`Handler::on_timeout`] at this time or a little later. The earliest of all requested times counts;
    /// once it has come it is forgotten.
    pub fn wake_at(&mut self, at: Instant) {
        if self.wake.is_none_or(|wake| at < wake) {
            *self.wake = Some(at);
        }
    }

    /// Stops or resumes the reading of the connection. Timers run on: a peer that is not read for longer than its
    /// keepalive allows is taken for dead.
    pub fn pause(&mut self, paused: bool) {
        *self.paused = paused;
    }
}
