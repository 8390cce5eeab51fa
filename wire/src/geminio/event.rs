//! What the gateway learns from a geminio connection.

use bytes::Bytes;

use super::stream_packet::StreamPacket;

/// A client's introduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The gateway assigns the id; `client` is only a request.
    pub acquire: bool,
    /// The requested id.
    pub client: Option<u64>,
    /// The client's description of itself.
    pub meta: Bytes,
}

/// What the peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client introduces itself; answer with `Conn::welcome` or `Conn::refuse`.
    Hello(Hello),
    /// A packet of a stream, the default one included: stream id, packet id and content.
    StreamPacket(u64, u64, StreamPacket),
    /// The peer opens a stream; answer with `Conn::accept` or `Conn::dismiss`.
    Opening {
        /// The stream's id.
        session: u64,
        /// The receiver.
        peer: String,
        /// Opaque data for the receiver.
        meta: Bytes,
    },
    /// The peer has accepted a stream that was offered to it.
    Accepted(u64),
    /// The peer has ended the stream; end the other half if that was not done.
    Ended(u64),
    /// The peer is closing the connection: send it no new requests. Its packets on streams still arrive.
    Leaving,
    /// The peer has closed the connection; write what is queued and close.
    Over,
}
