//! The geminio protocol of the reference's clients: packets of a 14-byte header and a body that is mostly JSON, many
//! streams on one connection, no flow control.
//!
//! [`Packet`] encodes and decodes packets; [`Conn`] is the gateway's side of one connection, without sockets, clocks or
//! tasks. What a peer sends is checked here: lengths before anything is allocated, fixed parts before they are read,
//! JSON as Go's decoder accepts it.

mod conn;
mod data;
mod event;
mod header;
mod json;
mod malformed;
mod output;
mod packet;
mod stream_packet;
mod streams;
mod time;

pub use conn::{Conn, HANDSHAKE_BODY_MAX};
pub use data::{ConnData, MessageData, SessionData};
pub use event::{Event, Hello};
pub use header::{BODY_MAX, HEADER, Header};
pub use malformed::Malformed;
pub use packet::{Body, DEFAULT_SESSION, MAGIC, Packet};
pub use stream_packet::StreamPacket;
pub use streams::{DISMISS, OFFER, PEER_BUFFER, TAIL, TAIL_MAX};
pub use time::Time;
