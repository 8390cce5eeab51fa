//! Reads of the tables for one request, without delaying the applier.

use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_routing::{NodeId, Tables};
use tokio::sync::Semaphore;

use super::error::OperationError;
use crate::consensus::handle::Consensus;

/// How long a request may wait for the read barrier, unless an election may take longer; and for a
/// permit to walk the tables.
const WAIT: Duration = Duration::from_secs(3);
/// Concurrent walks over the tables: each holds a copy of them and occupies one thread.
const WALKERS: usize = 4;

/// Reads the tables for the requests of one port.
pub(crate) struct Reader {
    consensus: Consensus,
    /// How long a request may wait for the read barrier.
    barrier_wait: Duration,
    walkers: Arc<Semaphore>,
}

impl Reader {
    /// A reader for one port; `no_quorum_after` is how long an election may take.
    pub(crate) fn new(consensus: Consensus, no_quorum_after: Duration) -> Self {
        let barrier_wait = WAIT.max(no_quorum_after);
        Reader { consensus, barrier_wait, walkers: Arc::new(Semaphore::new(WALKERS)) }
    }

    /// The replica whose tables it reads.
    pub(crate) fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// This node's id while it is draining: clients must not be sent to it then.
    pub(crate) fn leaving(&self) -> Option<NodeId> {
        self.consensus.node().filter(|_| self.consensus.is_draining())
    }

    /// A copy of the tables with everything that was committed before this was called. The copy is cheap.
    ///
    /// # Errors
    /// [`OperationError::Unavailable`]: the cluster has no quorum. [`OperationError::Starting`].
    pub(crate) async fn tables(&self) -> Result<Tables, OperationError> {
        self.consensus.barrier(Instant::now() + self.barrier_wait).await?;
        self.local_tables()
    }

    /// A copy of the tables as this node has applied them; they may be stale.
    ///
    /// # Errors
    /// [`OperationError::Starting`].
    pub(crate) fn local_tables(&self) -> Result<Tables, OperationError> {
        let replica = self.consensus.replica().ok_or(OperationError::Starting)?;
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
