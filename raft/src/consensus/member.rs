//! The parts of a running member that its tasks share.

use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Epoch, NodeId, Revision};
use openraft::ReadPolicy;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::applied::AppliedState;
use super::state_machine::Raft;
use crate::config::Timing;
use crate::network::Clients;
use crate::storage::identity::Identity;
use crate::storage::log::SegmentLog;

/// The parts of a running member that its tasks share.
pub(crate) struct Member {
    pub(crate) identity: Identity,
    pub(crate) raft: Raft,
    pub(crate) state: Arc<AppliedState>,
    pub(crate) clients: Clients,
    pub(crate) log: SegmentLog,
    pub(crate) timing: Timing,
    /// Set once another member knows a later boot of this member than its own directory does.
    pub(crate) stale: watch::Sender<bool>,
    /// Why the cluster has no quorum; `None` while it has one.
    pub(crate) quorum_loss: watch::Sender<Option<String>>,
    /// Cancelled when the member starts to leave.
    pub(crate) leaving: CancellationToken,
}

/// The state of a member, as it sees the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub node: NodeId,
    /// Raft's term.
    pub term: u64,
    /// The leader, as far as this member knows.
    pub leader: Option<NodeId>,
    /// The newest applied entry.
    pub applied: Revision,
    /// The newest entry of the log, committed or not; `None` in an empty log.
    pub last_log: Option<Revision>,
    /// The newest entry that the log no longer holds, only a snapshot; `None` if the log holds all.
    pub purged: Option<Revision>,
    /// The members that vote.
    pub voters: Vec<NodeId>,
    /// The members that only receive the log.
    pub learners: Vec<NodeId>,
    /// This process's epoch; `None` until the process is registered, and while it is fenced.
    pub epoch: Option<Epoch>,
}

/// Why the leader cannot confirm its leadership for a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadIndexError {
    #[error("no quorum")]
    NoQuorum,
    /// openraft's error: this member does not lead, a transfer is under way, or it has stopped.
    #[error("{0}")]
    Raft(String),
}

impl Member {
    /// This member's number.
    pub(crate) fn node(&self) -> NodeId {
        NodeId(self.identity.node)
    }

    /// The leader and its mesh address, as far as this member knows.
    pub(crate) fn leader(&self) -> Option<(u64, String)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        let node = metrics.membership_config.membership().get_node(&leader)?;
        Some((leader, node.addr.clone()))
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raft.server_metrics().borrow_watched().current_leader == Some(self.identity.node)
    }

    /// Waits until this member knows a leader that `accept` accepts. Returns `None` if Raft has stopped.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait_leader(&self, accept: impl Fn(u64) -> bool) -> Option<u64> {
        let mut metrics = self.raft.server_metrics();
        loop {
            let leader = metrics.borrow_watched().current_leader;
            if let Some(leader) = leader.filter(|leader| accept(*leader)) {
                return Some(leader);
            }
            metrics.changed().await.ok()?;
        }
    }

    /// Waits before a request to the leader is tried again: until a leader is known, or for `pause` if one
    /// was known already.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn before_retry(&self, pause: Duration) {
        if self.leader().is_some() || self.wait_leader(|_| true).await.is_none() {
            sleep(pause).await;
        }
    }

    /// Whether a membership change is half done: majorities of the old and of the new voters must agree.
    pub(crate) fn is_joint(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_joint_config().len() > 1
    }

    /// The index up to which a follower has acknowledged the log, if this member leads and knows.
    pub(crate) fn acknowledged_by(&self, node: u64) -> Option<u64> {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        Some(metrics.replication.as_ref()?.get(&node)?.as_ref()?.index)
    }

    /// As the leader: the index that a linearizable read must wait for.
    ///
    /// # Errors
    /// [`ReadIndexError`]: this member does not lead, or no quorum confirms that it does.
    pub(crate) async fn read_index(&self) -> Result<u64, ReadIndexError> {
        let read = timeout(self.timing.rpc(), self.raft.get_read_log_id(ReadPolicy::ReadIndex)).await;
        let read = read.map_err(|_| ReadIndexError::NoQuorum)?;
        let (read, _) = read.map_err(|error| ReadIndexError::Raft(error.to_string()))?;
        Ok(read.index())
    }

    pub(crate) fn status(&self) -> Status {
        let data = self.raft.data_metrics();
        let (last_log, purged) = {
            let data = data.borrow_watched();
            (data.last_log.map(|last| last.index), data.purged.map(|purged| purged.index))
        };
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        Status {
            node: self.node(),
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader.map(NodeId),
            applied: Revision(*self.state.applied().borrow()),
            last_log: last_log.map(Revision),
            purged: purged.map(Revision),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            epoch: *self.state.epoch().borrow(),
        }
    }
}
