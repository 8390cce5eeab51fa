//! What the parts of a member share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use limes_routing::{Epoch, NodeId, Revision};
use openraft::ReadPolicy;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::Timing;
use crate::consensus::state_machine::Shared;
use crate::network::Clients;
use crate::storage::identity::Identity;
use crate::storage::log::SegmentLog;
use crate::types::Raft;

/// What the parts of a member share.
pub(crate) struct Member {
    pub(crate) identity: Identity,
    pub(crate) raft: Raft,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clients: Clients,
    pub(crate) log: SegmentLog,
    pub(crate) timing: Timing,
    /// Set when another member knows a later life of this one than its own directory does.
    pub(crate) outdated: watch::Sender<bool>,
    /// What keeps the cluster from agreeing, in words.
    pub(crate) trouble: watch::Sender<Option<String>>,
    stopping: AtomicBool,
}

/// What a member looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub node: NodeId,
    /// Raft's term.
    pub term: u64,
    /// Who leads, as far as this member knows.
    pub leader: Option<NodeId>,
    /// The newest entry it has applied.
    pub applied: Revision,
    /// The newest entry of its log, agreed on or not.
    pub last_log: Revision,
    /// The newest entry that its log no longer holds, only a snapshot; 0: it holds all.
    pub purged: Revision,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who only receives the log.
    pub learners: Vec<NodeId>,
    /// This process's epoch; `None` until it is up, or while it is fenced.
    pub epoch: Option<Epoch>,
}

impl Member {
    pub(crate) fn new(
        identity: Identity,
        raft: Raft,
        shared: Arc<Shared>,
        clients: Clients,
        log: SegmentLog,
        timing: Timing,
    ) -> Self {
        let (outdated, trouble) = (watch::Sender::new(false), watch::Sender::new(None));
        let stopping = AtomicBool::new(false);
        Member { identity, raft, shared, clients, log, timing, outdated, trouble, stopping }
    }

    /// Its number.
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

    /// Whether a change of members is half done: two sets of voters must agree, the old and the new.
    pub(crate) fn is_joint(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_joint_config().len() > 1
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The index up to which a follower has acknowledged the log, if this member leads and knows.
    pub(crate) fn acknowledged_by(&self, node: u64) -> Option<u64> {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        Some(metrics.replication.as_ref()?.get(&node)?.as_ref()?.index)
    }

    /// The index that a read must wait for, if this member leads with a quorum behind it.
    pub(crate) async fn read_index_here(&self) -> Result<u64, String> {
        let asked = timeout(self.timing.rpc(), self.raft.get_read_log_id(ReadPolicy::ReadIndex)).await;
        let (read, _) = asked.map_err(|_| "no quorum".to_owned())?.map_err(|error| error.to_string())?;
        Ok(read.index())
    }

    pub(crate) fn status(&self) -> Status {
        let data = self.raft.data_metrics();
        let (last_log, purged) = {
            let data = data.borrow_watched();
            (data.last_log.map_or(0, |last| last.index), data.purged.map_or(0, |purged| purged.index))
        };
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        Status {
            node: self.node(),
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader.map(NodeId),
            applied: Revision(*self.shared.applied().borrow()),
            last_log: Revision(last_log),
            purged: Revision(purged),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            epoch: *self.shared.epoch().borrow(),
        }
    }
}
