//! Every limit of the protocol: its unit, the memory that it implies, and the code that a peer gets for crossing it
//! (PROTOCOL 9).

use std::time::Duration;

/// Largest body of a frame, in bytes. One frame being read holds at most this much; a larger length
/// is refused with [`Code::TOO_LARGE`](crate::Code::TOO_LARGE) before anything is allocated.
pub const FRAME_BODY_MAX: usize = 16 << 20;
/// Largest head of a frame, in bytes: the range of its 16-bit length.
pub const HEAD_MAX: usize = u16::MAX as usize;
/// Longest method, topic or service name, in bytes.
pub const NAME_MAX: usize = 255;
/// Largest meta of a hello or of a stream's OPEN, in bytes: the range of the 16-bit length in a callback's body. A
/// session keeps it.
pub const META_MAX: usize = u16::MAX as usize;
/// Largest number of names in one register, withdraw, subscribe or unsubscribe.
pub const NAMES_MAX: usize = 1_024;
/// Longest text for people in a frame, in bytes; senders cut longer ones.
pub const TEXT_MAX: usize = 1_024;
/// Longest resume ticket, in bytes.
pub const TICKET_MAX: usize = 4_096;
/// Largest number of addresses in a welcome or go-away.
pub const PEERS_MAX: usize = 64;
/// Largest number of calls and messages that one session may have in flight in one direction; more are answered
/// [`Code::BUSY`](crate::Code::BUSY). About 100 bytes each.
pub const CALLS_MAX: usize = 65_536;
/// Largest number of open streams on one connection: the default of yamux. Each may hold [`STREAM_WINDOW`].
pub const STREAMS_MAX: usize = 512;
/// Bytes that one stream may have in flight unread, in one direction (yamux's initial credit).
pub const STREAM_WINDOW: usize = 256 << 10;
/// Largest payload of one DATA record, in bytes.
pub const DATA_MAX: usize = 64 << 10;
/// Largest record of a stream, DATA and OPEN included.
pub const RECORD_MAX: usize = 128 << 10;
/// Largest data length that a yamux frame may announce, in bytes; senders split at 16 KiB.
pub const YAMUX_DATA_MAX: usize = 1 << 20;
/// Messages that may wait in one mailbox: twice what one sender may have in flight, as with
/// [`IN_FLIGHT_BYTES_MAX`].
pub const MAILBOX_ITEMS_MAX: usize = 2 * CALLS_MAX;
/// Payload bytes that may wait in one mailbox.
pub const MAILBOX_BYTES_MAX: usize = 32 << 20;
/// Bytes of replies that may wait in one mailbox; past it callers get [`Code::BUSY`](crate::Code::BUSY) instead. It is
/// the only bound on the replies that one peer may ask for.
pub const ANSWERS_BYTES_MAX: usize = 256 << 20;
/// Payload bytes of the calls and messages that one session may have in flight, beyond the first; more are answered
/// [`Code::BUSY`](crate::Code::BUSY). Half a mailbox, so that no single sender makes a receiver busy for the others.
pub const IN_FLIGHT_BYTES_MAX: usize = MAILBOX_BYTES_MAX / 2;
/// Queued output, in bytes, above which a connection takes no messages from its mailbox, so that senders get BUSY.
pub const OUTPUT_SOFT_MAX: usize = 1 << 20;
/// Queued answers to what was read, in bytes, above which a connection is not read until some of them are written.
/// [`OUTPUT_SOFT_MAX`] holds back what other tasks send.
pub const OUTPUT_HARD_MAX: usize = 8 << 20;
/// How long a peer may accept no output before it is disconnected with [`Code::LIMIT`](crate::Code::LIMIT).
pub const STALL: Duration = Duration::from_secs(10);
/// Silence after which a side sends a ping; twice as long ends the connection.
pub const KEEPALIVE: Duration = Duration::from_secs(20);
/// Shortest keepalive that a peer may ask for.
pub const KEEPALIVE_MIN: Duration = Duration::from_millis(100);
/// How long the handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a closing connection may take to write its remaining output.
pub const LINGER: Duration = Duration::from_secs(2);

/// The limits of one connection that the settings choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest body of a frame, in bytes.
    pub body: usize,
    /// Calls and messages in flight, in each direction.
    pub calls: usize,
    /// Bytes of the client's bodies in flight, beyond the first.
    pub queued: usize,
    /// Streams open at once.
    pub streams: usize,
    /// Silence before a ping. The smaller value of both sides applies.
    pub keepalive: Duration,
    /// Time for the handshake.
    pub handshake: Duration,
    /// How long a peer may accept no output while some waits.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: FRAME_BODY_MAX,
            calls: CALLS_MAX,
            queued: IN_FLIGHT_BYTES_MAX,
            streams: STREAMS_MAX,
            keepalive: KEEPALIVE,
            handshake: HANDSHAKE,
            stall: STALL,
        }
    }
}
