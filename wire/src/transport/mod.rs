//! What a connection runs on: bytes in and out, and what is known about the peer.
//!
//! [`Transport`] is the interface; [`tcp`] and [`tls`] implement it, and [`AnyTransport`] is the one type that holds
//! any of them. The [driver](crate::driver) needs only the bytes, so tests may drive a pipe in memory.
//!
//! # Adding a transport
//! 1. Write `transport/NAME.rs`: a type that implements [`Transport`], and the functions that dial and accept it
//!    (for WebSocket: the HTTP upgrade; for QUIC: one bidirectional stream of a QUIC connection).
//! 2. Add a variant to [`AnyTransport`], with its `From` and its arm in the macro `delegate`.
//! 3. In the node, accept it where TCP and TLS are accepted today; protocol detection, admission and sessions take an
//!    [`AnyTransport`] and do not change. In the SDK, dial it where TCP and TLS are dialled.

mod any;
mod interface;
pub mod tcp;
pub mod tls;

pub use any::AnyTransport;
pub use interface::{PeerIdentity, Transport};
pub use tcp::{dial, tune};
