//! The wire protocols of limes: bytes to frames and back, the state of one connection, and the driver that node and SDK
//! share.
//!
//! Two protocols exist: the native one ([`conn`], [`frame`], [`stream`]), which [PROTOCOL.md](#the-limes-protocol-version-1)
//! below defines, and [`geminio`], that of the reference's clients. Both are state machines without sockets, clocks or
//! tasks. With the feature `tokio` the crate also has [`transport`]s (TCP, TLS) and the [`driver`], one task per
//! connection; without it the crate has no runtime.
//!
//! ```text
//!   ┌───────────────────────────── driver ─────────────────────────────┐
//!   │  Handler ◀─ events ─ Protocol ◀─ bytes ─┐        (feature tokio) │
//!   └──────────────────────┬──────────────────┼────────────────────────┘
//!                          │                  └──── transport: TCP, TLS
//!            ┌─────────────┴─────────────┐
//!          conn (native)              geminio
//!            │                           │
//!     frame, stream, callback            │
//!            │                           │
//!          codec      staged ◀───────────┤
//!            │                           │
//!          text, limits, close, code ◀───┘
//! ```
//!
//! # Layers
//! Modules use only modules to their left: `limits`, `code`, `text`, `staged` ← `close` ← `codec` ← `callback`, `frame`,
//! `stream` ← `conn`, `geminio` ← `transport` ← `driver`.
#![doc = ""]
#![doc = include_str!("../PROTOCOL.md")]

pub mod callback;
mod close;
mod code;
pub mod codec;
pub mod conn;
#[cfg(feature = "tokio")]
pub mod driver;
pub mod frame;
pub mod geminio;
pub mod limits;
mod staged;
pub mod stream;
mod text;
#[cfg(feature = "tokio")]
pub mod transport;

pub use close::{By, CloseReason};
pub use code::Code;
pub use conn::{Conn, Event};
pub use text::Str;
