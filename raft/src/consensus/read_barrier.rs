//! Read barriers: everything that was committed before a barrier began is applied here when it ends.
//!
//! One round of ReadIndex (Ongaro 2014, 6.4) runs at a time. All callers that come while it runs share the
//! next round.

use std::sync::Arc;
use std::time::Duration;

use limes_routing::Revision;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::member::Member;
use super::propose::RETRY_PAUSE;
use crate::tasks::{TaskKind, Tasks};

/// Callers that may wait for a round.
const QUEUE: usize = 65_536;

/// Why a read barrier failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// There is no leader, or no quorum behind it.
    #[error("the cluster has no quorum")]
    NoQuorum,
    /// Too many callers wait.
    #[error("too many reads are waiting")]
    Busy,
    /// The member is stopping.
    #[error("this node is stopping")]
    Stopped,
}

type Answer = oneshot::Sender<Result<Revision, BarrierError>>;

/// Requests read barriers. Clones share the rounds.
#[derive(Debug, Clone)]
pub(crate) struct ReadBarriers {
    queue: mpsc::Sender<Answer>,
}

impl ReadBarriers {
    pub(crate) fn start(member: Arc<Member>, tasks: &Tasks) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tasks.spawn_once(TaskKind::ReadBarrier, run(member, waiting));
        ReadBarriers { queue }
    }

    /// Waits for a round that begins after this call. Returns the index that it waited for.
    ///
    /// # Errors
    /// [`BarrierError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait(&self) -> Result<Revision, BarrierError> {
        let (answer, receiver) = oneshot::channel();
        self.queue.try_send(answer).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BarrierError::Busy,
            mpsc::error::TrySendError::Closed(_) => BarrierError::Stopped,
        })?;
        receiver.await.unwrap_or(Err(BarrierError::Stopped))
    }
}

async fn run(member: Arc<Member>, mut waiting: mpsc::Receiver<Answer>) {
    let mut sharing = Vec::new();
    let timing = member.timing;
    let mut patience = timing.no_quorum_after();
    while waiting.recv_many(&mut sharing, QUEUE).await > 0 {
        let result = round(&member, patience).await;
        patience = if result.is_ok() { timing.no_quorum_after() } else { timing.still_no_quorum_after() };
        for answer in sharing.drain(..) {
            let _ = answer.send(result);
        }
    }
}

async fn round(member: &Member, patience: Duration) -> Result<Revision, BarrierError> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Ok(Some(index)) = timeout_at(until, read_index(member)).await {
            let mut applied = member.state.applied();
            return match timeout_at(until, applied.wait_for(|applied| *applied >= index)).await {
                Ok(Ok(_)) => Ok(Revision(index)),
                Ok(Err(_)) => Err(BarrierError::Stopped),
                Err(_) => Err(BarrierError::NoQuorum),
            };
        }
        let _ = timeout_at(until, member.before_retry(RETRY_PAUSE)).await;
    }
    Err(BarrierError::NoQuorum)
}

/// The index that a linearizable read must wait for, from the leader; `None` if no leader with a quorum
/// answers.
///
/// # Cancel safety
/// Safe.
pub(crate) async fn read_index(member: &Member) -> Option<u64> {
    let (leader, addr) = member.leader()?;
    if leader == member.identity.node {
        return member.read_index().await.ok();
    }
    let request = async { member.clients.requests(&addr)?.read_index().await };
    request.await.ok()
}
