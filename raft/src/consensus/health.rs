//! Detects that a member cannot go on.

use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::member::Member;
use crate::tasks::Tasks;

/// Waits until the member cannot go on, and returns the reason in one line. Never returns once the member
/// leaves.
///
/// # Cancel safety
/// Safe.
pub(crate) async fn failed(member: &Member, tasks: &Tasks) -> String {
    let mut stale = member.stale.subscribe();
    let mut task = tasks.failed();
    let why = tokio::select! {
        _ = stale.wait_for(|stale| *stale) => {
            "another node knows a later boot of this member than its directory does: the directory is an old copy; \
             start the node again, and it joins as a new member".to_owned()
        }
        why = raft_ended(member) => why,
        Ok(failed) = task.wait_for(Option::is_some) => match *failed {
            Some(kind) => format!("the {kind} task has failed"),
            None => "a task has failed".to_owned(),
        },
    };
    if member.leaving.is_cancelled() {
        return std::future::pending().await;
    }
    why
}

/// Waits until Raft has stopped. Its metrics end with it, also when it panics.
async fn raft_ended(member: &Member) -> String {
    let mut metrics = member.raft.server_metrics();
    while metrics.changed().await.is_ok() {}
    match &member.raft.metrics().borrow_watched().running_state {
        Err(fatal) => format!("raft has stopped: {fatal}"),
        Ok(()) => "raft has stopped: its task panicked".to_owned(),
    }
}
