//! Reading the tables for one request: after a barrier, and without holding up those who apply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_routing::{NodeId, Tables};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::node::Node;

/// How long a request may wait for the cluster, its own reading not counted, unless a leader may take
/// longer to be found.
const PATIENCE: Duration = Duration::from_secs(3);
/// Requests that walk the tables at once: each keeps a copy of them and one thread busy.
const WALKERS: usize = 4;

/// Reads for one listener.
pub(crate) struct Reader {
    node: Arc<Node>,
    walkers: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Reader { node, walkers: Arc::new(Semaphore::new(WALKERS)) }
    }

    /// The node that reads.
    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The node itself while it is leaving: clients shall not be sent to it any more.
    pub(crate) fn leaving(&self) -> Option<NodeId> {
        self.node.is_draining().then(|| self.node.id())
    }

    /// The tables, with all that was committed before this was called. A copy, cheap.
    ///
    /// # Errors
    /// `UNAVAILABLE`: the cluster has no quorum, or this node is starting.
    pub(crate) async fn tables(&self) -> Result<Tables, Status> {
        let patience = PATIENCE.max(self.node.config.cluster.timing().no_quorum_after());
        let barrier = self.node.barrier(Instant::now() + patience).await;
        barrier.map_err(|failure| Status::unavailable(failure.text))?;
        self.local_tables()
    }

    /// The tables as this node has applied them, old or not.
    ///
    /// # Errors
    /// `UNAVAILABLE`: this node is starting.
    pub(crate) fn local_tables(&self) -> Result<Tables, Status> {
        let replica =
            self.node.replica().ok_or_else(|| Status::unavailable("this node is still starting"))?;
        Ok(replica.tables())
    }

    /// As [`Reader::tables`], and then a walk over many rows, where it disturbs nobody.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn walk<T: Send + 'static>(
        &self,
        walk: impl FnOnce(&Tables) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let busy = || Status::unavailable("this node is busy with other lists, or stopping");
        let walker = tokio::time::timeout(PATIENCE, self.walkers.clone().acquire_owned());
        let walker = walker.await.ok().and_then(Result::ok).ok_or_else(busy)?;
        let tables = self.tables().await?;
        let walked = tokio::task::spawn_blocking(move || {
            let walked = walk(&tables);
            drop(walker);
            walked
        });
        walked.await.map_err(|error| Status::internal(format!("the list was not finished: {error}")))
    }
}
