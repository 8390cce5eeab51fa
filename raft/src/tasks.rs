//! The tasks of a member: what each one's failure means, and how they stop.
//!
//! A member stops in two steps. When it starts to *leave*, tasks that change the cluster finish their round
//! and end. When it has *stopped*, the tasks that serve it end too, wherever they are. Both are cancellation
//! tokens; no task polls a flag.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::error;

/// Pause before a failed task is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// Answers the RPCs of other members.
    PeerServer,
    /// Batches and proposes this node's events.
    Proposer,
    /// Runs the rounds of read barriers.
    ReadBarrier,
    /// Keeps this process registered in the tables.
    Registration,
    /// Reports a lost quorum.
    QuorumReport,
    /// Writes the member cache.
    MemberCache,
    /// Brings the members in line while this member leads.
    Reconciler,
    /// Takes snapshots.
    SnapshotSchedule,
}

/// What the failure of a task does. The failure of an operation that a caller waits for, such as a
/// membership change, is an error for that caller and needs no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailurePolicy {
    /// Start the task again: it keeps no state that its failure could have damaged.
    Restart,
    /// End the process: other tasks and other nodes rely on this one.
    EndProcess,
}

impl TaskKind {
    pub(crate) fn policy(self) -> FailurePolicy {
        match self {
            TaskKind::PeerServer | TaskKind::Proposer | TaskKind::ReadBarrier => FailurePolicy::EndProcess,
            TaskKind::Registration
            | TaskKind::QuorumReport
            | TaskKind::MemberCache
            | TaskKind::Reconciler
            | TaskKind::SnapshotSchedule => FailurePolicy::Restart,
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskKind::PeerServer => "peer server",
            TaskKind::Proposer => "proposer",
            TaskKind::ReadBarrier => "read barrier",
            TaskKind::Registration => "registration",
            TaskKind::QuorumReport => "quorum report",
            TaskKind::MemberCache => "member cache",
            TaskKind::Reconciler => "reconciler",
            TaskKind::SnapshotSchedule => "snapshot schedule",
        })
    }
}

/// Starts, supervises and stops the tasks of a member. They also stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stopped: CancellationToken,
    leaving: CancellationToken,
    failed: watch::Sender<Option<TaskKind>>,
    _stop_on_drop: DropGuard,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        let stopped = CancellationToken::new();
        Tasks {
            tracker: TaskTracker::new(),
            leaving: stopped.child_token(),
            failed: watch::Sender::new(None),
            _stop_on_drop: stopped.clone().drop_guard(),
            stopped,
        }
    }

    /// Cancelled when the member starts to leave.
    pub(crate) fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// The first task that failed and whose failure ends the process.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<TaskKind>> {
        self.failed.subscribe()
    }

    /// Runs a task until the member stops. `work` makes its future: once, or again after each failure if
    /// the kind is restarted. A task fails when it panics or returns before the member leaves.
    pub(crate) fn spawn<F, W>(&self, kind: TaskKind, work: W)
    where
        F: Future<Output = ()> + Send + 'static,
        W: FnMut() -> F + Send + 'static,
    {
        let supervised = supervise(kind, self.leaving.clone(), self.failed.clone(), work);
        let stopped = self.stopped.clone();
        self.tracker.spawn(async move { stopped.run_until_cancelled_owned(supervised).await });
    }

    /// As [`Tasks::spawn`], for a task that owns what it works on and so cannot be restarted.
    pub(crate) fn spawn_once<F>(&self, kind: TaskKind, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        debug_assert_eq!(kind.policy(), FailurePolicy::EndProcess);
        let mut work = Some(work);
        self.spawn(kind, move || {
            let work = work.take();
            async move {
                if let Some(work) = work {
                    work.await;
                }
            }
        });
    }

    /// Lets the tasks that change the cluster end.
    pub(crate) fn leave(&self) {
        self.leaving.cancel();
    }

    /// Stops all tasks, and waits until they have ended.
    ///
    /// # Cancel safety
    /// The tasks stop anyway.
    pub(crate) async fn stop(&self) {
        self.stopped.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

async fn supervise<F, W>(
    kind: TaskKind,
    leaving: CancellationToken,
    failed: watch::Sender<Option<TaskKind>>,
    mut work: W,
) where
    F: Future<Output = ()>,
    W: FnMut() -> F,
{
    loop {
        let ended = AssertUnwindSafe(work()).catch_unwind().await;
        if leaving.is_cancelled() {
            return;
        }
        let how = if ended.is_err() { "panicked" } else { "ended" };
        match kind.policy() {
            FailurePolicy::Restart => {
                error!(task = %kind, "a task has {how}: it starts again");
                sleep(RESTART_PAUSE).await;
            }
            FailurePolicy::EndProcess => {
                error!(task = %kind, "a task has {how}: this member must stop");
                failed.send_if_modified(|first| first.replace(first.unwrap_or(kind)).is_none());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn panic_of_a_critical_task_is_reported() {
        let tasks = Tasks::new();
        let mut failed = tasks.failed();
        tasks.spawn_once(TaskKind::Proposer, async { panic!("a test") });
        let kind = *failed.wait_for(Option::is_some).await.unwrap();
        assert_eq!(kind, Some(TaskKind::Proposer));
    }

    #[tokio::test(start_paused = true)]
    async fn other_tasks_start_again_after_a_panic() {
        let tasks = Tasks::new();
        let (starts, (sender, mut twice)) = (Arc::new(AtomicU32::new(0)), watch::channel(false));
        tasks.spawn(TaskKind::MemberCache, move || {
            let (starts, sender) = (starts.clone(), sender.clone());
            async move {
                assert!(starts.fetch_add(1, Ordering::Relaxed) > 0, "the first start panics");
                sender.send_replace(true);
                std::future::pending().await
            }
        });
        twice.wait_for(|twice| *twice).await.unwrap();
        assert_eq!(*tasks.failed().borrow(), None);
    }

    #[tokio::test]
    async fn stop_ends_every_task() {
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::MemberCache, std::future::pending);
        tasks.spawn_once(TaskKind::PeerServer, std::future::pending());
        tasks.stop().await;
        assert_eq!(*tasks.failed().borrow(), None);
    }

    #[tokio::test]
    async fn task_that_ends_because_the_member_leaves_has_not_failed() {
        let tasks = Tasks::new();
        let leaving = tasks.leaving();
        tasks.spawn(TaskKind::Reconciler, move || leaving.clone().cancelled_owned());
        tasks.leave();
        tasks.stop().await;
        assert_eq!(*tasks.failed().borrow(), None);
    }
}
