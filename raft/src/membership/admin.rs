//! The operations that an operator asks for, by name; the leader executes them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Event, Member as Row, NodeId};
use openraft::ChangeMembers;
use openraft::type_config::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::info;

use super::change::{ChangeError, change, propose};
use crate::consensus::member::Member;
use crate::network::{AdminRequest, InvalidRequest};

/// Entries that a learner may lack when it is promoted.
const LAG: u64 = 1_000;
/// Pause before a failed attempt is repeated at the same leader.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Why an operation was not executed, or not completed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// No leader within [`Timing::no_quorum_after`](crate::Timing::no_quorum_after).
    #[error("the cluster has no leader")]
    NoLeader,
    /// The node that was asked no longer leads.
    #[error("this node does not lead; ask again")]
    NotLeader,
    /// No member has this name.
    #[error("there is no node {0}")]
    UnknownNode(String),
    /// The node is not up.
    #[error("{0} is not up")]
    NotUp(String),
    /// The learner lacks too many entries.
    #[error("{0} has not caught up with the log yet; ask again")]
    NotCaughtUp(String),
    /// The leader cannot be removed.
    #[error("{0} leads: transfer the leadership first")]
    Leads(String),
    /// Without the member, no quorum of the voters would be up.
    #[error("only {up} of the {voters} voters left would be up: the cluster would lose its quorum")]
    WouldLoseQuorum {
        /// Voters left that are up.
        up: usize,
        /// Voters left.
        voters: usize,
    },
    /// No other voter is up.
    #[error("no other voter is up")]
    NoOtherVoter,
    /// The node is not a voter that is up.
    #[error("{0} is not a voter that is up")]
    NotAVoter(String),
    /// The transfer of the leadership failed.
    #[error("the leadership cannot be transferred: {0}")]
    Transfer(String),
    /// The operation took too long; it may still be completed.
    #[error("the change took too long")]
    Timeout,
    /// The change of the membership failed; it may still be completed.
    #[error("{0}")]
    Change(String),
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopping,
    /// The leader's error, or the error of the connection to it.
    #[error("{0}")]
    Leader(String),
}

impl From<ChangeError> for AdminError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Timeout => AdminError::Timeout,
            error => AdminError::Change(error.to_string()),
        }
    }
}

impl From<InvalidRequest> for AdminError {
    fn from(error: InvalidRequest) -> Self {
        AdminError::Leader(error.to_string())
    }
}

/// Has the leader execute an operation, whether it is this member or another one.
///
/// # Errors
/// [`AdminError`].
///
/// # Cancel safety
/// Safe: a leader that has received the request executes it anyway.
pub(crate) async fn request(member: &Arc<Member>, request: AdminRequest) -> Result<(), AdminError> {
    let until = Instant::now() + member.timing.no_quorum_after();
    while Instant::now() < until {
        if member.is_leader() {
            let done = timeout(member.timing.change(), execute(member, request)).await;
            return done.unwrap_or(Err(AdminError::Timeout));
        }
        if let Some((_, addr)) = member.leader() {
            let asked = async { member.clients.requests(&addr)?.change(&request).await };
            match asked.await {
                Err(error) if error.is_unreachable() => {}
                done => return done.map_err(|error| AdminError::Leader(error.to_string())),
            }
        }
        let _ = timeout_at(until, member.before_retry(RETRY_PAUSE)).await;
    }
    Err(AdminError::NoLeader)
}

/// Executes an operation; only the leader can. A task of its own does it: a change of voters is two proposals,
/// and the caller may go away between them.
///
/// # Errors
/// [`AdminError`].
///
/// # Cancel safety
/// Safe: the operation goes on.
pub(crate) async fn execute(member: &Arc<Member>, request: AdminRequest) -> Result<(), AdminError> {
    let member = Arc::clone(member);
    let done = tokio::spawn(async move {
        if !member.is_leader() {
            return Err(AdminError::NotLeader);
        }
        match request {
            AdminRequest::Promote { name } => promote(&member, name).await,
            AdminRequest::Remove { name } => remove(&member, name).await,
            AdminRequest::TransferLeader { to } => transfer_leader(&member, to.as_deref()).await,
        }
    });
    done.await.unwrap_or_else(|error| Err(AdminError::Change(error.to_string())))
}

/// The members of a name, the oldest first: more than one while a number is being replaced.
fn members_named(member: &Member, name: &str) -> Vec<Row> {
    member.state.read(|tables| tables.members().filter(|row| row.name == name).cloned().collect())
}

/// Makes a learner a voter, once it has the log.
async fn promote(member: &Member, name: String) -> Result<(), AdminError> {
    let Some(row) = members_named(member, &name).pop() else { return Err(AdminError::UnknownNode(name)) };
    let NodeId(number) = row.node;
    let votes = member.raft.voter_ids().any(|id| id == number);
    if !votes {
        if member.state.read(|tables| tables.live_epoch(row.node).is_none()) {
            return Err(AdminError::NotUp(name));
        }
        if lag(member, number).is_none_or(|lag| lag > LAG) {
            return Err(AdminError::NotCaughtUp(name));
        }
    }
    // An interrupted promotion is completed: half-way, the old voters alone must still agree too.
    if !votes || member.is_joint() {
        change(member, ChangeMembers::AddVoterIds(BTreeSet::from([number]))).await?;
    }
    propose(member, Event::MemberPromoted { node: row.node }).await?;
    Ok(())
}

/// How many entries a follower lacks, as far as the leader knows.
fn lag(member: &Member, number: u64) -> Option<u64> {
    let last = member.raft.data_metrics().borrow_watched().last_log.map_or(0, |last| last.index);
    Some(last.saturating_sub(member.acknowledged_by(number)?))
}

/// Removes a member for good, and its rows with it.
async fn remove(member: &Member, name: String) -> Result<(), AdminError> {
    let rows = members_named(member, &name);
    if rows.is_empty() {
        return Err(AdminError::UnknownNode(name));
    }
    if rows.iter().any(|row| row.node == member.node()) {
        return Err(AdminError::Leads(name));
    }
    let removed: BTreeSet<u64> = rows.iter().map(|row| row.node.0).collect();
    let voters: BTreeSet<u64> = member.raft.voter_ids().collect();
    if !voters.is_disjoint(&removed) {
        let left: BTreeSet<u64> = voters.difference(&removed).copied().collect();
        check_quorum(member, &left)?;
        change(member, ChangeMembers::ReplaceAllVoters(left)).await?;
    }
    // The member stays a learner until it has received this; then the reconciler removes it from Raft's
    // configuration too.
    for row in rows {
        propose(member, Event::MemberRemoved { node: row.node }).await?;
    }
    info!(name, ?removed, "member removed");
    Ok(())
}

/// Checks that a quorum of these voters is up.
fn check_quorum(member: &Member, voters: &BTreeSet<u64>) -> Result<(), AdminError> {
    let is_up = |id: &&u64| member.state.read(|tables| tables.live_epoch(NodeId(**id)).is_some());
    let up = voters.iter().filter(is_up).count();
    if up * 2 > voters.len() {
        return Ok(());
    }
    Err(AdminError::WouldLoseQuorum { up, voters: voters.len() })
}

/// Transfers the leadership to a voter, the named one or any that is up; returns when that one leads. If the
/// voter does not take over (its log is not on its disk in time), there is an election, which any voter may
/// win.
///
/// # Errors
/// [`AdminError`].
///
/// # Cancel safety
/// The transfer goes on.
pub(crate) async fn transfer_leader(member: &Member, to: Option<&str>) -> Result<(), AdminError> {
    let named: Option<BTreeSet<NodeId>> =
        to.map(|name| members_named(member, name).iter().map(|row| row.node).collect());
    if named.as_ref().is_some_and(|named| named.contains(&member.node())) {
        return Ok(());
    }
    let voters: Vec<NodeId> = member.raft.voter_ids().map(NodeId).collect();
    let target = member.state.read(|tables| {
        voters.into_iter().find(|id| {
            *id != member.node()
                && named.as_ref().is_none_or(|named| named.contains(id))
                && tables.live_epoch(*id).is_some()
        })
    });
    let target = match (target, to) {
        (Some(target), _) => target,
        (None, None) => return Err(AdminError::NoOtherVoter),
        (None, Some(name)) => return Err(AdminError::NotAVoter(name.to_owned())),
    };
    let trigger = member.raft.trigger();
    trigger.transfer_leader(target.0).await.map_err(|error| AdminError::Transfer(error.to_string()))?;
    let next = member.wait_leader(|leader| leader != member.identity.node);
    match timeout(member.timing.no_quorum_after(), next).await {
        Ok(Some(leader)) if leader == target.0 || to.is_none() => {
            info!(to = leader, "leadership transferred");
            Ok(())
        }
        Ok(Some(leader)) => {
            Err(AdminError::Transfer(format!("member {leader} was elected meanwhile; ask again")))
        }
        Ok(None) => Err(AdminError::Stopping),
        Err(_) => Err(AdminError::Transfer("the voter did not take over in time; ask again".to_owned())),
    }
}
