//! Calls that keep flowing while something happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limes_sdk::Edge;
use tokio::task::JoinHandle;

/// Callers at once.
const CALLERS: usize = 8;

/// What came of the calls.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slowest: Duration,
    pub(super) first_error: Option<String>,
}

/// Calls in flight from an edge to the service, until stopped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    callers: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Begins to call.
    pub(super) fn start(edge: &Edge, method: &'static str) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let callers = (0..CALLERS)
            .map(|_| tokio::spawn(call(edge.clone(), method, stop.clone(), count.clone())))
            .collect();
        Load { stop, count, callers }
    }

    /// Waits until so many more calls have ended.
    pub(super) async fn flow(&self, more: u64) {
        let until = self.count.load(Ordering::Relaxed) + more;
        while self.count.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the calls and adds them up.
    pub(super) async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        for caller in self.callers {
            if let Ok(tally) = caller.await {
                sum.calls += tally.calls;
                sum.failed += tally.failed;
                sum.slowest = sum.slowest.max(tally.slowest);
                sum.first_error = sum.first_error.or(tally.first_error);
            }
        }
        sum
    }
}

async fn call(edge: Edge, method: &'static str, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let result = edge.call_within(method, "are you there?", Duration::from_secs(30)).await;
        tally.calls += 1;
        tally.slowest = tally.slowest.max(began.elapsed());
        if let Err(error) = result {
            tally.failed += 1;
            tally.first_error.get_or_insert(error.to_string());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    tally
}
