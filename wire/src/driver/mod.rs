//! The one driver of [`Conn`](crate::Conn) that node and SDK share: tokio sockets, TLS and yamux streams.
//!
//! [`drive`] is one task per connection and the only one: it reads, hands frames to a [`Handler`],
//! takes mail from a bounded [`Mailbox`], writes, and polls the yamux session if there is one. An
//! idle connection holds no buffer.

mod cx;
mod dial;
mod drive;
mod error;
mod geminio;
mod input;
mod mailbox;
mod mux;
mod pipe;
mod record;
mod relay;
mod stream;
mod timer;
pub mod tls;
mod track;
mod transport;

use std::time::Instant;

pub use cx::Cx;
pub use dial::{dial, tune};
pub use drive::drive;
pub use error::StreamError;
pub use geminio::{GeminioCx, GeminioHandler, drive_geminio};
pub use mailbox::{Mailbox, PushError};
pub use record::RecordStream;
pub use relay::{Raw, relay};
pub use stream::Stream;
pub use transport::Transport;

use crate::CloseReason;
use crate::frame::{Frame, GoAway, Hello, Welcome};

/// What one connection's owner does. All methods are called by the one task of [`drive`] and must
/// not block.
pub trait Handler: Send + 'static {
    /// What other tasks may tell this one.
    type Mail: Send + 'static;

    /// A client said hello; answer with [`Cx::welcome`] or [`Cx::close`], now or at later mail.
    fn on_hello(&mut self, hello: Hello, cx: &mut Cx<'_>);
    /// The gateway has accepted this client.
    fn on_welcome(&mut self, welcome: Welcome, cx: &mut Cx<'_>);
    /// A frame after the handshake.
    fn on_frame(&mut self, frame: Frame, cx: &mut Cx<'_>);
    /// The peer refuses (before the welcome) or leaves.
    fn on_goaway(&mut self, goaway: GoAway, cx: &mut Cx<'_>);
    /// Something from the mailbox.
    fn on_mail(&mut self, mail: Self::Mail, cx: &mut Cx<'_>);
    /// The peer opened a stream.
    fn on_stream(&mut self, stream: Stream, cx: &mut Cx<'_>);
    /// A time given to [`Cx::wake_at`] has come.
    fn on_timeout(&mut self, now: Instant, cx: &mut Cx<'_>);
    /// The peer has been pinged after a silence (`true`), or has been heard again (`false`).
    fn on_silence(&mut self, _silent: bool, _cx: &mut Cx<'_>) {}
    /// Whether a large frame that takes long may go on holding the memory for what has come of it; no ends the
    /// connection with [`Code::LIMIT`](crate::Code::LIMIT).
    fn may_hold(&self) -> bool {
        true
    }
    /// The connection begins to close: nothing more is read from the peer or from the mailbox, which is closed;
    /// here is the mail that was never read. Called exactly once, before the last words are out, which may take a
    /// while where the peer takes nothing.
    fn on_closing(&mut self, unread: Vec<Self::Mail>);
    /// The connection is over; called exactly once, after [`Handler::on_closing`].
    fn on_close(self, reason: CloseReason);
}
