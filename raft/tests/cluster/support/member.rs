//! One member on a runtime of its own, so that it can be killed.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use limes_raft::{Observer, ProposeError, Replica, StartError};
use limes_routing::{Batch, Effect, Event, NodeId, Revision, Tables, Verdict};
use tokio::runtime::Runtime;

use super::LIMIT;

/// One applied batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub revision: Revision,
    pub batch: Batch,
    pub verdicts: Vec<Verdict>,
}

/// An observer that records everything.
#[derive(Default)]
pub struct Recorder {
    pub seen: parking_lot::Mutex<Vec<Seen>>,
    pub jumps: parking_lot::Mutex<Vec<Vec<Effect>>>,
}

impl Recorder {
    pub fn seen(&self) -> parking_lot::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock()
    }
}

impl Observer for Recorder {
    fn identified(&self, _: NodeId, _: [u8; 16], _: [u8; 16]) {}

    fn applied(&self, revision: Revision, batch: &Batch, verdicts: &[Verdict], _: &[Effect], _: &Tables) {
        let (batch, verdicts) = (batch.clone(), verdicts.to_vec());
        self.seen().push(Seen { revision, batch, verdicts });
    }

    fn installed(&self, effects: &[Effect], _: &Tables) {
        self.jumps.lock().push(effects.to_vec());
    }
}

/// A running member.
pub struct Running {
    pub(super) runtime: Runtime,
    pub replica: Replica,
    pub recorder: Arc<Recorder>,
}

impl Running {
    /// Runs a future on the member's runtime, and waits for its result.
    pub fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.spawn(work).recv_timeout(LIMIT * 2).expect("an answer in time")
    }

    pub fn submit(&self, event: Event) -> Result<Verdict, ProposeError> {
        let replica = self.replica.clone();
        self.run(async move { replica.proposer().submit(event).await })
    }

    pub fn plain(&self, event: Event) -> Result<Revision, ProposeError> {
        let replica = self.replica.clone();
        self.run(async move { replica.propose(event).await })
    }

    pub fn barrier(&self) -> Result<Revision, limes_raft::BarrierError> {
        let replica = self.replica.clone();
        self.run(async move { replica.barrier().await })
    }

    pub fn wait_up(&self) {
        let replica = self.replica.clone();
        let up = self.run(async move {
            let mut up = pin!(replica.wait_up(LIMIT));
            tokio::select! {
                up = &mut up => match up {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("{error}; {:?}; {:?}", replica.status(), replica.quorum_loss())),
                },
                // A failed member looks like a lost quorum otherwise.
                why = replica.failed() => Err(why.to_string()),
            }
        });
        up.unwrap_or_else(|why| panic!("no epoch: {why}"));
    }

    /// Runs a future on the member's runtime; the result arrives in the channel.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> std::sync::mpsc::Receiver<T> {
        let (sender, result) = std::sync::mpsc::channel();
        self.runtime.spawn(async move { sender.send(work.await) });
        result
    }
}

/// A starting member.
pub struct Starting {
    pub(super) runtime: Runtime,
    pub(super) recorder: Arc<Recorder>,
    pub(super) started: std::sync::mpsc::Receiver<Result<Replica, StartError>>,
}

impl Starting {
    /// Waits until the member runs or has failed to start.
    pub fn finish(self, limit: Duration) -> Result<Running, StartError> {
        let started = self.started.recv_timeout(limit).expect("the member starts or fails in time");
        match started {
            Ok(replica) => Ok(Running { runtime: self.runtime, replica, recorder: self.recorder }),
            Err(error) => {
                self.runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Whether the start has not ended within this time.
    pub fn is_waiting(&self, time: Duration) -> bool {
        self.started.recv_timeout(time).is_err()
    }

    pub fn kill(self) {
        end(self.runtime);
    }
}

/// Ends a member. It must not write any more when its directory is used again.
pub(super) fn end(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_secs(10));
}
