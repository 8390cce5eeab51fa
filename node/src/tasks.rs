//! The one place where tasks are spawned.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::{Instrument, error, error_span};

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

/// Spawns a task without which the node would only look alive. If it panics the process ends, so that the others
/// see that the node is down, and whoever keeps it running starts it anew.
pub(crate) fn vital<F>(kind: Kind, work: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    spawn(kind, async move {
        let _guard = Vital(kind);
        work.await;
    })
}

struct Vital(Kind);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(kind = ?self.0, "a task has panicked that this node cannot do without: the process ends");
            std::process::abort();
        }
    }
}
