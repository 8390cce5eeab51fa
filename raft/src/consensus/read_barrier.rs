//! Read barriers: what was committed before one began is visible here when it ends.
//!
//! One round of ReadIndex (Ongaro 2014, 6.4) runs at a time; all who come while it runs share the
//! next one.

use std::sync::Arc;
use std::time::Duration;

use limes_routing::Revision;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use crate::consensus::member::Member;
use crate::tasks::Tasks;

/// Callers that may wait.
const WAITING: usize = 65_536;
/// Pause before the leader is looked for again.
const AGAIN: Duration = Duration::from_millis(20);

/// Why a barrier could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    /// No leader, or no quorum behind it.
    #[error("the cluster has no quorum")]
    NoQuorum,
    /// Too many wait.
    #[error("too many reads wait for the cluster")]
    Busy,
    /// The member is stopping.
    #[error("this node is stopping")]
    Stopped,
}

type Answer = oneshot::Sender<Result<Revision, BarrierError>>;

/// Asks for barriers; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Barriers {
    queue: mpsc::Sender<Answer>,
}

impl Barriers {
    pub(crate) fn start(member: Arc<Member>, tasks: &Tasks) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tasks.spawn(run(member, waiting));
        Barriers { queue }
    }

    /// Waits for a round that begins after this call.
    pub(crate) async fn pass(&self) -> Result<Revision, BarrierError> {
        let (tell, told) = oneshot::channel();
        self.queue.try_send(tell).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BarrierError::Busy,
            mpsc::error::TrySendError::Closed(_) => BarrierError::Stopped,
        })?;
        told.await.unwrap_or(Err(BarrierError::Stopped))
    }
}

async fn run(member: Arc<Member>, mut waiting: mpsc::Receiver<Answer>) {
    let mut sharing = Vec::new();
    let timing = member.timing;
    let mut patience = timing.no_quorum_after();
    while waiting.recv_many(&mut sharing, WAITING).await > 0 {
        let result = round(&member, patience).await;
        patience = if result.is_ok() { timing.no_quorum_after() } else { timing.still_no_quorum_after() };
        for tell in sharing.drain(..) {
            let _ = tell.send(result);
        }
    }
}

async fn round(member: &Member, patience: Duration) -> Result<Revision, BarrierError> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Ok(Some(index)) = timeout_at(until, index(member)).await {
            let mut applied = member.shared.applied();
            return match timeout_at(until, applied.wait_for(|applied| *applied >= index)).await {
                Ok(Ok(_)) => Ok(Revision(index)),
                Ok(Err(_)) => Err(BarrierError::Stopped),
                Err(_) => Err(BarrierError::NoQuorum),
            };
        }
        sleep(AGAIN).await;
    }
    Err(BarrierError::NoQuorum)
}

/// The index that a read must wait for, by whoever leads; nothing: no leader with a quorum answers.
pub(crate) async fn index(member: &Member) -> Option<u64> {
    let (leader, addr) = member.leader()?;
    if leader == member.identity.node {
        return member.read_index_here().await.ok();
    }
    let asked = async { member.clients.ask(&addr)?.read_index().await };
    asked.await.ok()
}
