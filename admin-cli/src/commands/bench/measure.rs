//! Running a load: warm-up, the run, and what it cost.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::histogram::Histogram;
use super::nodes::Nodes;
use crate::client::Error;

/// Nothing is counted yet.
const WARMING: u8 = 0;
/// Everything is counted.
const COUNTING: u8 = 1;
/// No more is begun.
const OVER: u8 = 2;

/// How long what is in flight at the end may take.
const END: Duration = Duration::from_secs(60);

/// One of those who work at once: a future that goes on until its [`Tally`] says that it is over.
pub(super) type Worker = Box<dyn FnOnce(Tally) -> Pin<Box<dyn Future<Output = Tally> + Send>> + Send>;

/// What all workers of a load look at.
#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    /// Some operation has been counted.
    some: AtomicBool,
}

/// What one worker has done.
#[derive(Debug)]
pub(super) struct Tally {
    shared: Arc<Shared>,
    /// How long its operations took.
    pub(super) took: Histogram,
    /// Those that failed.
    pub(super) errors: u64,
    /// What the last failure said.
    pub(super) last_error: Option<String>,
    /// Bytes moved.
    pub(super) bytes: u64,
}

impl Tally {
    fn new(shared: Arc<Shared>) -> Self {
        Tally { shared, took: Histogram::new(), errors: 0, last_error: None, bytes: 0 }
    }

    /// Whether another operation is to be begun.
    pub(super) fn goes_on(&self) -> bool {
        self.shared.phase.load(Ordering::Relaxed) != OVER
    }

    /// Notes an operation that moved so many bytes.
    pub(super) fn note<E: ToString>(&mut self, began: Instant, bytes: u64, result: Result<(), E>) {
        if self.shared.phase.load(Ordering::Relaxed) != COUNTING {
            return;
        }
        self.shared.some.store(true, Ordering::Relaxed);
        match result {
            Ok(()) => {
                self.took.add(began.elapsed());
                self.bytes += bytes;
            }
            Err(error) => {
                self.errors += 1;
                self.last_error = Some(error.to_string());
            }
        }
    }
}

/// What a load has come to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// All workers together.
    pub(super) took: Histogram,
    pub(super) errors: u64,
    pub(super) last_error: Option<String>,
    pub(super) bytes: u64,
    /// The part that was counted.
    pub(super) time: Duration,
    /// What the gateway's processes spent in it; nothing if they are not known.
    pub(super) cpu_us: Option<u64>,
}

/// How long a load runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    warm_up: Duration,
    time: Duration,
}

impl Load {
    pub(super) fn new(warm_up: Duration, time: Duration) -> Self {
        Load { warm_up, time }
    }

    /// Runs all workers at once, for longer where nothing has ended in the time given.
    pub(super) async fn run(self, nodes: &Nodes, workers: Vec<Worker>) -> Result<Outcome, Error> {
        let shared = Arc::<Shared>::default();
        shared.phase.store(WARMING, Ordering::Relaxed);
        let mut running = JoinSet::new();
        for worker in workers {
            running.spawn(worker(Tally::new(shared.clone())));
        }
        tokio::time::sleep(self.warm_up).await;
        let before = nodes.cpu_us();
        let began = Instant::now();
        shared.phase.store(COUNTING, Ordering::Relaxed);
        tokio::time::sleep(self.time).await;
        while !shared.some.load(Ordering::Relaxed) && began.elapsed() < self.time + END {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        shared.phase.store(OVER, Ordering::Relaxed);
        let time = began.elapsed();
        let cpu_us = nodes.cpu_us().zip(before).map(|(after, before)| after.saturating_sub(before));
        let mut all = Outcome { took: Histogram::new(), errors: 0, last_error: None, bytes: 0, time, cpu_us };
        let gather = async {
            while let Some(tally) = running.join_next().await {
                let tally = tally.map_err(Error::bench)?;
                all.took.merge(&tally.took);
                all.errors += tally.errors;
                all.bytes += tally.bytes;
                all.last_error = tally.last_error.or(all.last_error.take());
            }
            Ok::<_, Error>(())
        };
        tokio::time::timeout(END, gather).await.map_err(|_| Error::Late)??;
        Ok(all)
    }
}
