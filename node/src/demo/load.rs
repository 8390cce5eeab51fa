//! A constant load of calls while something else happens.

use std::time::{Duration, Instant};

use limes_sdk::Edge;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Concurrent callers.
const CALLERS: usize = 8;
/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(30);
/// Pause of a caller after a call that failed.
const PAUSE: Duration = Duration::from_millis(20);

/// The outcome of the calls.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) slowest: Duration,
    pub(super) first_error: Option<String>,
}

/// Callers that call from an edge until they are stopped.
pub(super) struct Load {
    stop: CancellationToken,
    completed: watch::Sender<u64>,
    callers: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Starts the callers.
    pub(super) fn start(edge: &Edge, method: &'static str) -> Self {
        let (stop, completed) = (CancellationToken::new(), watch::Sender::new(0));
        let callers = (0..CALLERS)
            .map(|_| tokio::spawn(call(edge.clone(), method, stop.clone(), completed.clone())))
            .collect();
        Load { stop, completed, callers }
    }

    /// Waits until this many more calls have completed, failed ones included.
    pub(super) async fn flow(&self, more: u64) {
        let mut completed = self.completed.subscribe();
        let target = *completed.borrow_and_update() + more;
        // The sender is in `self`, so that this cannot fail.
        let _ = completed.wait_for(|completed| *completed >= target).await;
    }

    /// Stops the callers after their current calls and adds up their tallies.
    pub(super) async fn stop(self) -> Tally {
        self.stop.cancel();
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

async fn call(
    edge: Edge,
    method: &'static str,
    stop: CancellationToken,
    completed: watch::Sender<u64>,
) -> Tally {
    let mut tally = Tally::default();
    while !stop.is_cancelled() {
        let began = Instant::now();
        let result = edge.call_within(method, "are you there?", DEADLINE).await;
        tally.calls += 1;
        tally.slowest = tally.slowest.max(began.elapsed());
        if let Err(error) = result {
            tally.failed += 1;
            tally.first_error.get_or_insert(error.to_string());
            tokio::time::sleep(PAUSE).await;
        }
        completed.send_modify(|completed| *completed += 1);
    }
    tally
}
