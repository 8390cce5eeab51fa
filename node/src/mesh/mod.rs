//! Connections to the other nodes: one for calls and messages and one for streams, dialled by each
//! node to each other, apart from Raft's own.

mod frame;
mod hello;
mod hop;
mod link;
mod peers;

pub(crate) use hop::StreamTarget;
pub(crate) use link::Link;
pub(crate) use peers::{Peers, Reach, keep_links};
