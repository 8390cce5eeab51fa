//! The driver that node and SDK share: one task per connection, on tokio.
//!
//! ```text
//!        transport (TCP, TLS, …)
//!            │ bytes       ▲
//!            ▼             │
//!   ┌─ drive: one task per connection ────────────┐
//!   │  Input ─▶ Protocol::next_event ──▶ Handler  │ ◀── Mailbox ◀── other tasks
//!   │           Protocol::chunks ◀────── HandlerCx│
//!   └─────────────────────────────────────────────┘
//! ```
//!
//! [`drive`] is the loop. It reads, turns bytes into events by a [`Protocol`], gives events and messages from a bounded
//! [`Mailbox`] to a [`Handler`], and writes what the protocol has queued. Two protocols exist: [`Native`], with yamux
//! streams beside its frames, and [`geminio::Conn`](crate::geminio::Conn). An idle connection holds no buffer.

mod drive;
mod error;
mod geminio;
mod handler;
mod input;
mod mailbox;
mod mux;
mod native;
mod pipe;
mod protocol;
mod record;
mod relay;
mod stream;
mod timer;
mod track;

pub use drive::drive;
pub use error::StreamError;
pub use geminio::GeminioCx;
pub use handler::{Handler, HandlerCx};
pub use mailbox::{Mailbox, PushError};
pub use native::{Cx, Native, PeerEvent};
pub use protocol::Protocol;
pub use record::RecordStream;
pub use relay::{Raw, relay};
pub use stream::Stream;
