//! Connections to the other nodes: one for calls and messages and one for streams, dialled by each
//! node to each other, apart from Raft's own.

mod codec;
mod handshake;
mod link;
mod peers;

pub(crate) use link::Link;
pub(crate) use peers::{PeerTable, Reachability, keep_links};
