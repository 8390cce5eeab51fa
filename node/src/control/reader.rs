//! Reads of the tables for one request, without delaying the applier.

use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_routing::{NodeId, Tables};
use tokio::sync::Semaphore;

use super::error::OperationError;
use crate::node::Node;

/// How long a request may wait for the read barrier, unless electing a leader may take longer; and for a
/// permit to walk the tables.
const WAIT: Duration = Duration::from_secs(3);
/// Concurrent walks over the tables: each holds a copy of them and occupies one thread.
const WALKERS: usize = 4;

/// Reads the tables for the requests of one port.
pub(crate) struct Reader {
    node: Arc<Node>,
    walkers: Arc<Semaphore>,
}

impl Reader {
    /// A reader for one port.
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Reader { node, walkers: Arc::new(Semaphore::new(WALKERS)) }
    }

    /// The node that reads.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// This node's id while it is draining: clients must not be sent to it then.
    pub(crate) fn leaving(&self) -> Option<NodeId> {
        self.node.is_draining().then(|| self.node.id())
    }

    /// A copy of the tables with everything that was committed before this was called. The copy is cheap.
    ///
    /// # Errors
    /// [`OperationError::Unavailable`]: the cluster has no quorum. [`OperationError::Starting`].
    pub(crate) async fn tables(&self) -> Result<Tables, OperationError> {
        let wait = WAIT.max(self.node.config.cluster.timing().no_quorum_after());
        let barrier = self.node.barrier(Instant::now() + wait).await;
        barrier.map_err(|failure| OperationError::Unavailable(failure.text.to_string()))?;
        self.local_tables()
    }

    /// A copy of the tables as this node has applied them; they may be stale.
    ///
    /// # Errors
    /// [`OperationError::Starting`].
    pub(crate) fn local_tables(&self) -> Result<Tables, OperationError> {
        let replica = self.node.replica().ok_or(OperationError::Starting)?;
        Ok(replica.tables())
    }

    /// As [`Reader::tables`], followed by a walk over many rows on a thread for blocking work.
    ///
    /// # Errors
    /// As [`Reader::tables`]; [`OperationError::Busy`] if no walk ends in time.
    pub(crate) async fn walk<T: Send + 'static>(
        &self,
        walk: impl FnOnce(&Tables) -> T + Send + 'static,
    ) -> Result<T, OperationError> {
        let permit = tokio::time::timeout(WAIT, self.walkers.clone().acquire_owned());
        let permit = permit.await.ok().and_then(Result::ok).ok_or(OperationError::Busy)?;
        let tables = self.tables().await?;
        let walked = tokio::task::spawn_blocking(move || {
            let walked = walk(&tables);
            drop(permit);
            walked
        });
        walked.await.map_err(|error| OperationError::Unfinished(error.to_string()))
    }
}
