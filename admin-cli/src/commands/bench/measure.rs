//! Running a load: the warm-up, the counted part, and what it cost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::latency::Latencies;
use super::nodes::Nodes;
use super::shape::Shape;
use crate::error::Error;

/// Phase of a load: operations run, and are not counted.
const WARM_UP: u8 = 0;
/// Phase of a load: operations are counted.
const COUNTING: u8 = 1;
/// Phase of a load: no operation begins.
const OVER: u8 = 2;

/// Time limit for the first counted operation beyond the load's length, and for those in flight at its end.
const GRACE: Duration = Duration::from_secs(60);

/// One loop of operations; it runs until [`Tally::is_running`] is false, and returns the tally.
pub(super) type Worker = Box<dyn FnOnce(Tally) -> Pin<Box<dyn Future<Output = Tally> + Send>> + Send>;

/// State that all workers of a load share.
#[derive(Debug, Default)]
struct Progress {
    /// [`WARM_UP`], [`COUNTING`] or [`OVER`].
    phase: AtomicU8,
    /// At least one operation was counted.
    counted: AtomicBool,
    /// Notified once, when the first operation is counted.
    first: Notify,
}

/// The operations of one worker.
#[derive(Debug)]
pub(super) struct Tally {
    progress: Arc<Progress>,
    latencies: Latencies,
    errors: u64,
    last_error: Option<String>,
    bytes: u64,
}

impl Tally {
    fn new(progress: Arc<Progress>) -> Self {
        Tally { progress, latencies: Latencies::new(), errors: 0, last_error: None, bytes: 0 }
    }

    /// Whether the worker begins another operation.
    pub(super) fn is_running(&self) -> bool {
        self.progress.phase.load(Ordering::Relaxed) != OVER
    }

    /// Counts an operation that began then and moved so many bytes, unless the load is warming up or over.
    pub(super) fn count<E: ToString>(&mut self, began: Instant, bytes: u64, result: Result<(), E>) {
        if self.progress.phase.load(Ordering::Relaxed) != COUNTING {
            return;
        }
        let counted = &self.progress.counted;
        if !counted.load(Ordering::Relaxed) && !counted.swap(true, Ordering::Relaxed) {
            self.progress.first.notify_one();
        }
        match result {
            Ok(()) => {
                self.latencies.record(began.elapsed());
                self.bytes += bytes;
            }
            Err(error) => {
                self.errors += 1;
                self.last_error = Some(error.to_string());
            }
        }
    }
}

/// The result of a load, over all workers.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Latencies of the operations that succeeded.
    pub(super) latencies: Latencies,
    /// Operations that failed.
    pub(super) errors: u64,
    /// The text of one of the last failures.
    pub(super) last_error: Option<String>,
    /// Bytes moved by operations that succeeded.
    pub(super) bytes: u64,
    /// Length of the counted part.
    pub(super) time: Duration,
    /// CPU time that the nodes used in the counted part, in µs; `None` if their processes are not known.
    pub(super) cpu_us: Option<u64>,
}

impl Outcome {
    /// The result of a load without operations.
    pub(super) fn idle(time: Duration) -> Self {
        Outcome { latencies: Latencies::new(), errors: 0, last_error: None, bytes: 0, time, cpu_us: None }
    }

    fn add(&mut self, tally: Tally) {
        self.latencies.merge(&tally.latencies);
        self.errors += tally.errors;
        self.bytes += tally.bytes;
        self.last_error = tally.last_error.or(self.last_error.take());
    }
}

/// Runs all workers at once for the length of the load; for longer if no operation has ended by then.
///
/// # Errors
/// A worker panicked, or operations are in flight for longer than [`GRACE`].
pub(super) async fn run(nodes: &Nodes, shape: &Shape, workers: Vec<Worker>) -> Result<Outcome, Error> {
    let progress = Arc::<Progress>::default();
    progress.phase.store(WARM_UP, Ordering::Relaxed);
    let mut running = JoinSet::new();
    for worker in workers {
        running.spawn(worker(Tally::new(progress.clone())));
    }
    sleep(shape.duration / 5).await;
    let cpu_before = nodes.cpu_us();
    let began = Instant::now();
    progress.phase.store(COUNTING, Ordering::Relaxed);
    sleep(shape.duration).await;
    if !progress.counted.load(Ordering::Relaxed) {
        let _ = timeout(GRACE, progress.first.notified()).await;
    }
    progress.phase.store(OVER, Ordering::Relaxed);
    let mut outcome = Outcome::idle(began.elapsed());
    outcome.cpu_us = nodes.cpu_us().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    let gather = async {
        while let Some(tally) = running.join_next().await {
            outcome.add(tally?);
        }
        Ok::<_, Error>(())
    };
    timeout(GRACE, gather).await.map_err(|_| Error::InFlight(GRACE))??;
    Ok(outcome)
}
