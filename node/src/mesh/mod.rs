//! Connections to the other nodes: one for calls and messages and one for streams, dialled by each
//! node to each other, apart from Raft's own.

mod codec;
pub(crate) mod context;
pub(crate) mod dialer;
mod handshake;
pub(crate) mod link;
