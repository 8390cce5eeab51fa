//! Calls in both directions between an edge and a service.

use std::time::Duration;

use limes_sdk::{Edge, Service};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// Deadline of a call: longer than any fault lasts.
const CALL: Duration = Duration::from_secs(60);

/// The load. Dropping it ends it.
pub(super) struct Load {
    stop: CancellationToken,
    callers: JoinSet<Counts>,
}

/// The calls of one caller.
#[derive(Debug, Default)]
struct Counts {
    succeeded: u64,
    failed: u64,
}

impl Load {
    pub(super) fn start(edge: &Edge, service: &Service) -> Load {
        let stop = CancellationToken::new();
        let mut callers = JoinSet::new();
        for is_upward in [true, false] {
            callers.spawn(call(edge.clone(), service.clone(), is_upward, stop.clone()));
        }
        Load { stop, callers }
    }

    /// Ends the load; gives how many calls failed.
    ///
    /// # Errors
    /// No call succeeded, or a caller panicked.
    pub(super) async fn end(mut self) -> Result<u64, Error> {
        self.stop.cancel();
        let mut all = Counts::default();
        while let Some(counts) = self.callers.join_next().await {
            let counts = counts?;
            all.succeeded += counts.succeeded;
            all.failed += counts.failed;
        }
        if all.succeeded == 0 { Err(Error::NothingHappened("no call succeeded")) } else { Ok(all.failed) }
    }
}

async fn call(edge: Edge, service: Service, is_upward: bool, stop: CancellationToken) -> Counts {
    let mut counts = Counts::default();
    while !stop.is_cancelled() {
        let result = match is_upward {
            true => edge.call_within("echo", "x", CALL).await,
            false => service.call_within(edge.id(), "echo", "x", CALL).await,
        };
        match result {
            Ok(_) => counts.succeeded += 1,
            Err(error) => {
                eprintln!("a call between the other nodes failed: {error}");
                counts.failed += 1;
            }
        }
        stop.run_until_cancelled(sleep(Duration::from_millis(1))).await;
    }
    counts
}
