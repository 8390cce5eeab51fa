//! The handle of the database thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use limes_routing::{Revision, Verdict};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::database;
use super::model::{AppliedBatch, Command, Filter, HistoryError, Limits, Record};

/// Commands that may wait for the thread.
const QUEUE: usize = 16_384;
/// The longest time that a search may take.
const SEARCH_TIME: Duration = Duration::from_secs(10);

/// The history of this member. The database thread ends when this is dropped.
#[derive(Debug)]
pub struct History {
    commands: SyncSender<Command>,
    left_out: Arc<AtomicU64>,
}

impl History {
    /// Opens the history of a directory in the background. Without a database nothing is recorded, and
    /// searches fail.
    pub fn start(dir: PathBuf, limits: Limits) -> Self {
        let (commands, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("history".to_owned());
        if let Err(error) = thread.spawn(move || database::run(&dir, limits, &queue)) {
            tracing::warn!(%error, "cannot start the history's thread: no history is kept");
        }
        History { commands, left_out: Arc::default() }
    }

    /// Records an applied batch; never waits.
    pub(crate) fn record(&self, revision: Revision, bytes: &Bytes, verdicts: &[Verdict]) {
        let is_rejected = |verdict: &Verdict| matches!(verdict, Verdict::Rejected(_));
        if verdicts.iter().all(is_rejected) {
            return;
        }
        let rejected = verdicts.iter().zip(0..).filter(|(verdict, _)| is_rejected(verdict)).map(|(_, at)| at);
        let batch = AppliedBatch { revision, bytes: bytes.clone(), rejected: rejected.collect() };
        if self.commands.try_send(Command::Record(batch)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of batches that were not recorded because the queue was full.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Searches the history.
    ///
    /// # Errors
    /// [`HistoryError`], after ten seconds at the latest.
    ///
    /// # Cancel safety
    /// Safe: the database thread drops the answer.
    pub async fn search(&self, filter: Filter) -> Result<Vec<Record>, HistoryError> {
        let (sender, found) = oneshot::channel();
        self.commands.try_send(Command::Search(filter, sender)).map_err(|error| match error {
            TrySendError::Full(_) => HistoryError::Busy,
            TrySendError::Disconnected(_) => HistoryError::Unavailable,
        })?;
        match timeout(SEARCH_TIME, found).await {
            Ok(found) => found.unwrap_or(Err(HistoryError::Unavailable)),
            Err(_) => Err(HistoryError::Busy),
        }
    }
}
