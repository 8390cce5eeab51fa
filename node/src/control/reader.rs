//! Reading the tables for one request: after a barrier, and without holding up those who apply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_routing::{NodeId, Tables};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::consensus::handle::Consensus;

/// How long a request may wait for the cluster, its own reading not counted, unless a leader may take
/// longer to be found.
const PATIENCE: Duration = Duration::from_secs(3);
/// Requests that walk the tables at once: each keeps a copy of them and one thread busy.
const WALKERS: usize = 4;

/// Reads for one listener.
pub(crate) struct Reader {
    consensus: Consensus,
    patience: Duration,
    walkers: Arc<Semaphore>,
}

impl Reader {
    /// A reader of this node's tables; `no_quorum_after` is how long an election may take.
    pub(crate) fn new(consensus: Consensus, no_quorum_after: Duration) -> Self {
        let patience = PATIENCE.max(no_quorum_after);
        Reader { consensus, patience, walkers: Arc::new(Semaphore::new(WALKERS)) }
    }

    /// The replica that it reads.
    pub(crate) fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// The node itself while it is leaving: clients shall not be sent to it any more.
    pub(crate) fn leaving(&self) -> Option<NodeId> {
        self.consensus.node().filter(|_| self.consensus.is_draining())
    }

    /// The tables, with all that was committed before this was called. A copy, cheap.
    ///
    /// # Errors
    /// `UNAVAILABLE`: the cluster has no quorum, or this node is starting.
    pub(crate) async fn tables(&self) -> Result<Tables, Status> {
        let barrier = self.consensus.barrier(Instant::now() + self.patience).await;
        barrier.map_err(|error| Status::unavailable(error.to_string()))?;
        self.local_tables()
    }

    /// The tables as this node has applied them, old or not.
    ///
    /// # Errors
    /// `UNAVAILABLE`: this node is starting.
    pub(crate) fn local_tables(&self) -> Result<Tables, Status> {
        let replica =
            self.consensus.replica().ok_or_else(|| Status::unavailable("this node is still starting"))?;
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
