//! The messages between a geminio session and the tasks of its streams.
//!
//! Each stream of a geminio connection is carried by a task of its own. The session passes what the peer
//! sends as [`StreamEvent`]s; the task asks the session to write by [`StreamCommand`]s. The types are
//! part of the router's messages because a session's mailbox carries them.

use std::sync::Arc;

use bytes::Bytes;
use limes_wire::geminio::Word;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::stream_backlog::{Late, Load, Waiting};

/// An event for the task of a stream.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    /// The peer has accepted the stream, under this number.
    Accepted(u64),
    /// The peer sent a packet on the stream; the first number is the packet's id. Its bytes count as waiting
    /// until the load is taken.
    Packet(u64, Box<Word>, Load),
    /// The peer has closed the stream. A sender that is dropped without this has lost its connection.
    End,
}

/// A command of a stream's task to its session.
#[derive(Debug)]
pub(crate) enum StreamCommand {
    /// Offer the peer a stream, whose events go to this handle.
    Offer {
        /// The stream's name or peer id, as the peer shall see it.
        peer: String,
        /// What accompanies the offer.
        meta: Bytes,
        /// Receives the events.
        handle: StreamHandle,
    },
    /// Accept the stream that the peer has opened.
    Accept(u64),
    /// Send a packet with an id on a stream; the permit is held until it is queued.
    Send(u64, u64, Word, OwnedSemaphorePermit),
    /// Close a stream.
    Dismiss(u64),
    /// The queue of a stream, or of all streams together, has space again.
    Room,
}

/// The session's end of a stream's task.
#[derive(Debug)]
pub(crate) struct StreamHandle {
    /// Sends events to the task.
    pub(crate) events: mpsc::UnboundedSender<StreamEvent>,
    /// The bytes that wait for the stream's receiver.
    pub(crate) waiting: Arc<Waiting>,
    /// How long the connection has been paused for this stream.
    pub(crate) late: Late,
}
