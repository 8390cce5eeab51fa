//! Connections to the other nodes. Each node dials each other node twice, for calls and messages and for streams, apart
//! from Raft's own connections.

mod codec;
pub(crate) mod context;
pub(crate) mod dialer;
mod error;
mod failure_detector;
mod forwarded;
mod handshake;
pub(crate) mod link;
