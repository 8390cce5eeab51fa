//! The dialect of the reference's clients: packets of a 14-byte header and a body that is mostly
//! JSON, many streams on one connection, no flow control.
//!
//! [`Packet`] is bytes to packets and back; [`Conn`] is the gateway's side of one connection,
//! without sockets, clocks or tasks. What a peer sends is checked here: lengths before anything is
//! allocated, fixed parts before they are read, JSON as Go's decoder would take it.

mod conn;
mod data;
mod header;
mod json;
mod output;
mod packet;
mod streams;
mod time;
mod word;

pub use conn::{Conn, Event, HANDSHAKE_BODY_MAX, Hello};
pub use data::{ConnData, MessageData, SessionData};
pub use header::{BODY_MAX, HEADER, Header};
pub use packet::{Body, Packet};
pub use streams::{DISMISS, OFFER, PEER_BUFFER, TAIL, TAIL_MAX};
pub use time::Time;
pub use word::Word;

/// The first bytes of a connection in this dialect: version 1, a Conn packet.
pub const MAGIC: [u8; 2] = [header::VERSION, packet::CONN];
/// The stream that is open from the start: calls and messages of the connection itself.
pub const DEFAULT_SESSION: u64 = 1;

/// Why a packet could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A header of another version.
    #[error("version {0} of a packet, not 1")]
    Version(u8),
    /// A type that is not defined.
    #[error("a packet of the unknown type {0:#04x}")]
    Unknown(u8),
    /// The body is longer than its limit.
    #[error("a body of {0} bytes; the limit is {1}")]
    TooLarge(usize, usize),
    /// The body is shorter than its fixed part.
    #[error("a body of {0} bytes, too short for its type")]
    Short(usize),
    /// The JSON of the body cannot be understood.
    #[error("bad JSON in a body: {0}")]
    Json(String),
}
