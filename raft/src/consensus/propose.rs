//! Putting one batch into the log, at whichever member leads.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use limes_routing::{Batch, Event, Verdict};
use tokio::time::{Instant, timeout, timeout_at};

use super::member::Member;
use crate::types::Data;

/// Pause before a failed attempt is repeated at the same leader.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Why an event has no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// There is no leader, or no quorum behind it. The event may still be committed later.
    #[error("the cluster has no quorum")]
    NoQuorum,
    /// The node was declared down meanwhile. The event was not applied, or it was applied in an epoch that
    /// is over.
    #[error("this node was declared down meanwhile")]
    Fenced,
    /// Too many events wait.
    #[error("too many proposals are waiting")]
    Busy,
    /// The member is stopping.
    #[error("this node is stopping")]
    Stopped,
}

/// Proposes an encoded batch until it is in the log and applied here. The batch may get into the log twice;
/// the tables reject the second copy of a numbered batch.
///
/// # Cancel safety
/// The batch may be committed anyway.
pub(super) async fn propose_until_applied(member: &Member, bytes: Bytes) {
    let mut applied = member.state.applied();
    loop {
        if let Some(index) = propose_once(member, bytes.clone()).await
            && timeout(member.timing.append(), applied.wait_for(|applied| *applied >= index)).await.is_ok()
        {
            return;
        }
        member.before_retry(RETRY_PAUSE).await;
    }
}

/// One attempt to append a batch to the log; returns its index. After `None` the batch may be in the log or
/// not.
async fn propose_once(member: &Member, bytes: Bytes) -> Option<u64> {
    let (leader, addr) = member.leader()?;
    if leader == member.identity.node {
        let write = timeout(member.timing.append(), member.raft.client_write(Data(bytes))).await;
        return write.ok()?.ok().map(|written| written.log_id.index);
    }
    let request = async { member.clients.requests(&addr)?.propose(bytes).await };
    request.await.ok()
}

/// Proposes one event without a batch number, and waits until this member has applied it. The event may get
/// into the log twice, so its kind must tolerate that. Returns the index and the verdict.
///
/// # Errors
/// [`ProposeError::NoQuorum`] after `limit`; the event may still be committed later.
///
/// # Cancel safety
/// The event may be committed anyway.
pub(crate) async fn propose_unnumbered(
    member: &Member,
    event: Event,
    limit: Duration,
) -> Result<(u64, Verdict), ProposeError> {
    let began = Instant::now();
    let bytes = Batch { origin: None, time_ms: now_ms(), events: vec![event] }.encode();
    let until = began + limit;
    let mut applied = member.state.applied();
    while let Some(proposed) = before(until, propose_once(member, bytes.clone())).await {
        if let Some(index) = proposed {
            let seen = before(until, applied.wait_for(|applied| *applied >= index)).await;
            seen.ok_or(ProposeError::NoQuorum)?.map_err(|_| ProposeError::Stopped)?;
            let verdict = member.state.unnumbered_verdict(index).ok_or(ProposeError::NoQuorum)?;
            member.state.metrics.commit_seconds.record(began.elapsed());
            return Ok((index, verdict));
        }
        before(until, member.before_retry(RETRY_PAUSE)).await;
    }
    Err(ProposeError::NoQuorum)
}

async fn before<T>(until: Instant, work: impl Future<Output = T>) -> Option<T> {
    timeout_at(until, work).await.ok()
}

/// This node's clock, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
