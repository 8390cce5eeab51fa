//! What the history stores and what a search returns.

use std::time::Duration;

use bytes::Bytes;
use limes_routing::{EdgeId, Event, NodeId, Position, Revision, ServiceId};
use tokio::sync::oneshot;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of events.
    pub bytes: u64,
    /// Age, by the proposers' clocks.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 64 << 20, age: Duration::from_hours(7 * 24) }
    }
}

/// What to search for; a record must match every field that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Events about this edge.
    pub edge: Option<EdgeId>,
    /// Events about this service.
    pub service: Option<ServiceId>,
    /// Events about this node, or proposed by it.
    pub node: Option<NodeId>,
    /// Not before this time, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Only after this position.
    pub after: Option<Position>,
    /// The most records to return, the oldest first; `None` means 1,000.
    pub limit: Option<usize>,
}

/// One event that changed the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its position in the log.
    pub position: Position,
    /// The proposer's clock, in milliseconds since 1970.
    pub time_ms: u64,
    /// The node that proposed it; `None` for events of the cluster.
    pub node: Option<NodeId>,
    /// The event. Keys in it are blanked.
    pub event: Event,
}

/// Why a search has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Too many batches and searches wait, or the search took too long.
    #[error("the history is busy")]
    Busy,
    /// The disk failed; the node's log has the details.
    #[error("the history is not available")]
    Unavailable,
}

/// One applied batch.
pub(super) struct AppliedBatch {
    pub(super) revision: Revision,
    pub(super) bytes: Bytes,
    /// The events that changed nothing, by their place in the batch.
    pub(super) rejected: Vec<u32>,
}

/// The answer to a search.
pub(super) type Found = Result<Vec<Record>, HistoryError>;

/// A command to the database thread.
pub(super) enum Command {
    Record(AppliedBatch),
    Search(Filter, oneshot::Sender<Found>),
}
