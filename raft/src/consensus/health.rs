//! Detects that a member cannot go on.

use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::member::Member;
use crate::tasks::Tasks;

/// Why a running member cannot go on. Each message is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberFailure {
    /// Another member knows a later boot: an earlier state of this member must not vote.
    #[error(
        "another node knows a later boot of this member than its directory does: the directory is an old copy; start \
         the node again, and it joins as a new member"
    )]
    StaleDirectory,
    /// Raft has stopped: its disk failed, an entry cannot be decoded, or its task panicked.
    #[error("raft has stopped: {0}")]
    Raft(String),
    /// A task has failed that others rely on.
    #[error("the {0} task has failed")]
    Task(String),
}

/// Waits until the member cannot go on, and returns the reason. Never returns once the member leaves.
///
/// # Cancel safety
/// Safe.
pub(crate) async fn failed(member: &Member, tasks: &Tasks) -> MemberFailure {
    let mut stale = member.stale.subscribe();
    let mut task = tasks.failed();
    let failure = tokio::select! {
        _ = stale.wait_for(|stale| *stale) => MemberFailure::StaleDirectory,
        why = raft_ended(member) => MemberFailure::Raft(why),
        Ok(failed) = task.wait_for(Option::is_some) => {
            MemberFailure::Task(failed.map_or_else(String::new, |kind| kind.to_string()))
        }
    };
    if member.leaving.is_cancelled() {
        return std::future::pending().await;
    }
    failure
}

/// Waits until Raft has stopped. Its metrics end with it, also when it panics.
async fn raft_ended(member: &Member) -> String {
    let mut metrics = member.raft.server_metrics();
    while metrics.changed().await.is_ok() {}
    match &member.raft.metrics().borrow_watched().running_state {
        Err(fatal) => fatal.to_string(),
        Ok(()) => "its task panicked".to_owned(),
    }
}
