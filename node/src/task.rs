//! The one place where tasks are spawned.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::{Instrument, error_span};

/// What a task is for; names it in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Accepts connections.
    Listener,
    /// Drives or serves one edge's or service's session.
    Session,
    /// Carries one stream.
    Stream,
    /// Finds a way for one request whose route was not known.
    Route,
    /// Drives a connection to another node.
    Mesh,
    /// Keeps the tables true: removals, callbacks, node-down detection.
    Presence,
    /// Answers operators.
    Control,
}

/// Spawns a task of the node.
pub(crate) fn spawn<F>(kind: Kind, work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(work.instrument(error_span!(parent: None, "task", ?kind)))
}
