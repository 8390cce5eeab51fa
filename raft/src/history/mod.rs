//! The searchable past: what was applied here, by edge, service, node and time, bounded by age and
//! bytes.
//!
//! sled keeps it, for it may be lost or begun anew: each member has its own, nothing depends on it,
//! and what cannot be written in time is left out and counted. One thread owns the database.
//! Batches are gathered into chunks; each chunk begins with marks of whom it is about, so that a
//! search reads few of them.

mod chunk;
mod store;
mod subject;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use limes_routing::{EdgeId, Event, NodeId, Position, Revision, ServiceId, Verdict};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Batches that may wait for the thread.
const WAITING: usize = 16_384;
/// How long a search may take.
const SEARCH_TIME: Duration = Duration::from_secs(10);

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

/// What is looked for; all that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// About this edge.
    pub edge: Option<EdgeId>,
    /// About this service.
    pub service: Option<ServiceId>,
    /// About this node, or proposed by it.
    pub node: Option<NodeId>,
    /// Not before this time, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Only behind this position.
    pub after: Option<Position>,
    /// At most so many, the oldest first; 0 means 1,000.
    pub limit: usize,
}

/// One event that changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub position: Position,
    /// The proposer's clock, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who proposed it; `None` for the cluster itself.
    pub node: Option<NodeId>,
    /// What happened. Keys are blanked.
    pub event: Event,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Too much is waiting.
    #[error("the history is busy")]
    Busy,
    /// The disk failed; the log has said more.
    #[error("the history is not available")]
    Unavailable,
}

/// One applied batch.
struct Entry {
    revision: Revision,
    bytes: Bytes,
    /// The events that changed nothing, by their place in the batch.
    rejected: Vec<u32>,
}

enum Job {
    Record(Entry),
    Search(Filter, oneshot::Sender<Result<Vec<Record>, HistoryError>>),
}

/// The handle of the thread that keeps the past; the thread ends with it.
#[derive(Debug)]
pub struct History {
    jobs: SyncSender<Job>,
    left_out: Arc<AtomicU64>,
}

impl History {
    /// Opens the history in a directory, in the background.
    pub fn start(dir: PathBuf, limits: Limits) -> Self {
        let (jobs, queue) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("history".to_owned());
        if let Err(error) = thread.spawn(move || store::run(&dir, limits, &queue)) {
            tracing::warn!(%error, "no history is kept");
        }
        History { jobs, left_out: Arc::default() }
    }

    /// Notes an applied batch; never waits.
    pub(crate) fn record(&self, revision: Revision, bytes: &Bytes, verdicts: &[Verdict]) {
        let is_no = |verdict: &Verdict| matches!(verdict, Verdict::Rejected(_));
        if verdicts.iter().all(is_no) {
            return;
        }
        let rejected = verdicts.iter().zip(0..).filter(|(verdict, _)| is_no(verdict)).map(|(_, at)| at);
        let entry = Entry { revision, bytes: bytes.clone(), rejected: rejected.collect() };
        if self.jobs.try_send(Job::Record(entry)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Batches that could not be noted because too many waited.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Looks for what has happened.
    ///
    /// # Errors
    /// [`HistoryError`]; never later than after ten seconds.
    pub async fn search(&self, filter: Filter) -> Result<Vec<Record>, HistoryError> {
        let (tell, told) = oneshot::channel();
        self.jobs.try_send(Job::Search(filter, tell)).map_err(|error| match error {
            TrySendError::Full(_) => HistoryError::Busy,
            TrySendError::Disconnected(_) => HistoryError::Unavailable,
        })?;
        match timeout(SEARCH_TIME, told).await {
            Ok(found) => found.unwrap_or(Err(HistoryError::Unavailable)),
            Err(_) => Err(HistoryError::Busy),
        }
    }
}
