//! The tasks of a node: their kinds, what the failure of each kind does, and how they stop.
//!
//! A kind decides what follows when its task panics, or returns although it should not ([`OnFailure`]). The
//! server hands out [`Tasks`], a group of tasks that stop together: background tasks, listeners, and the
//! connections of operators and other nodes. A session's tasks end with its connection instead; see
//! [`spawn`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{Instrument, error, error_span, warn};

/// The pause before the first restart of a task; each further one is twice as long, up to [`RESTART_MAX`].
const RESTART_MIN: Duration = Duration::from_millis(100);
/// The longest pause before a restart.
const RESTART_MAX: Duration = Duration::from_secs(10);

/// What a task is for. Names the task in logs and decides what its failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Accepts connections on one port.
    Listener,
    /// Removes the rows of ended sessions from the tables.
    Removals,
    /// Revives rows after this node was wrongly declared down.
    Resume,
    /// Declares silent nodes down while this node leads.
    FailureDetector,
    /// Makes the callbacks that are due.
    PendingCallbacks,
    /// Dials the other nodes and pings them.
    Dialer,
    /// Probes the quorum.
    QuorumWatch,
    /// Looks for rows without a session.
    OrphanCheck,
    /// Logs each change of the leader.
    LeaderLog,
    /// Measures memory.
    MemoryWatch,
    /// Bounds the memory of the metrics.
    MetricsUpkeep,
    /// Drives the connection of an edge or a service, or does a piece of work for its session.
    Session,
    /// Carries one stream.
    Stream,
    /// Resolves requests whose route was not known at once.
    Resolution,
    /// Drives a connection to another node.
    Link,
    /// Serves a connection or a streamed answer on a port of operators.
    Operator,
}

/// What follows when a task panics, or returns before it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// The process ends: without the task the node would only look alive. The other nodes see that it is
    /// down, and its supervisor restarts it.
    EndProcess,
    /// The task is started again, after a pause that grows with each failure.
    Restart,
    /// The connection, stream or request that the task serves ends, and nothing else. To return is no
    /// failure.
    EndConnection,
}

impl Kind {
    /// The failure policy of this kind.
    pub(crate) const fn on_failure(self) -> OnFailure {
        match self {
            Kind::Listener
            | Kind::Removals
            | Kind::Resume
            | Kind::FailureDetector
            | Kind::PendingCallbacks
            | Kind::Dialer
            | Kind::QuorumWatch => OnFailure::EndProcess,
            // They hold no state that others rely on.
            Kind::OrphanCheck | Kind::LeaderLog | Kind::MemoryWatch | Kind::MetricsUpkeep => {
                OnFailure::Restart
            }
            Kind::Session | Kind::Stream | Kind::Resolution | Kind::Link | Kind::Operator => {
                OnFailure::EndConnection
            }
        }
    }
}

/// Spawns a task that ends by itself: with its connection, or at its request's deadline. The token of a
/// [`Tasks`] does not reach it, because every poll of every session would touch that one token; a session is
/// stopped by a command in its mailbox.
pub(crate) fn spawn<F>(kind: Kind, work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    debug_assert_eq!(kind.on_failure(), OnFailure::EndConnection, "{kind:?} needs supervision");
    tokio::spawn(work.instrument(span(kind)))
}

fn span(kind: Kind) -> tracing::Span {
    error_span!(parent: None, "task", ?kind)
}

/// A group of supervised tasks that stop together. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tasks {
    running: TaskTracker,
    stop: CancellationToken,
    end_process: Arc<dyn Fn(Kind) + Send + Sync>,
}

/// How a supervised task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Its group was stopped.
    Stopped,
    /// It panicked, or returned.
    Failed,
}

impl Default for Tasks {
    fn default() -> Self {
        Tasks::ending_process_by(|_| std::process::abort())
    }
}

impl Tasks {
    fn ending_process_by(end_process: impl Fn(Kind) + Send + Sync + 'static) -> Self {
        Tasks {
            running: TaskTracker::new(),
            stop: CancellationToken::new(),
            end_process: Arc::new(end_process),
        }
    }

    /// A group that [`Tasks::cancel`] stops alone, and that stops with this one.
    pub(crate) fn group(&self) -> Tasks {
        Tasks { stop: self.stop.child_token(), ..self.clone() }
    }

    /// Spawns a task whose failure ends the process.
    pub(crate) fn spawn_critical<F>(&self, kind: Kind, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        debug_assert_eq!(kind.on_failure(), OnFailure::EndProcess, "{kind:?} has another policy");
        let tasks = self.clone();
        self.running.spawn(async move {
            if tasks.run(kind, work).await == Ended::Failed {
                error!(?kind, "a critical task has failed: the process ends");
                (tasks.end_process)(kind);
            }
        });
    }

    /// Spawns a task that is started again each time it fails.
    pub(crate) fn spawn_restarting<F>(&self, kind: Kind, mut start: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        debug_assert_eq!(kind.on_failure(), OnFailure::Restart, "{kind:?} has another policy");
        let tasks = self.clone();
        self.running.spawn(async move {
            let mut pause = RESTART_MIN;
            while tasks.run(kind, start()).await == Ended::Failed {
                warn!(?kind, ?pause, "a task has failed and is restarted after a pause");
                if tasks.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(RESTART_MAX);
            }
        });
    }

    /// Spawns the task of a connection, which ends with it or when the group stops.
    pub(crate) fn spawn_connection<F>(&self, kind: Kind, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        debug_assert_eq!(kind.on_failure(), OnFailure::EndConnection, "{kind:?} has another policy");
        let tasks = self.clone();
        self.running.spawn(async move { tasks.run(kind, work).await });
    }

    /// Runs work in a task of its own, so that a panic can be observed and the polls of the work do not touch
    /// the token.
    async fn run<F>(&self, kind: Kind, work: F) -> Ended
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = AbortOnDropHandle::new(self.running.spawn(work.instrument(span(kind))));
        match self.stop.run_until_cancelled(work).await {
            None => Ended::Stopped,
            Some(Ok(())) => Ended::Failed,
            Some(Err(error)) if error.is_panic() => Ended::Failed,
            // The runtime shuts down.
            Some(Err(_)) => Ended::Stopped,
        }
    }

    /// Tells the tasks of this group, and of the groups made from it, to end; does not wait.
    pub(crate) fn cancel(&self) {
        self.stop.cancel();
    }

    /// Ends the tasks of this group and waits until all tasks that share its tracker have ended, at most for so long.
    ///
    /// # Cancel safety
    /// The tasks are cancelled when the future is first polled; dropping it ends the wait only.
    pub(crate) async fn stop(&self, at_most: Duration) {
        self.stop.cancel();
        self.running.close();
        if timeout(at_most, self.running.wait()).await.is_err() {
            warn!(tasks = self.running.len(), "tasks did not end in time");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a panic of a task is what these tests are about")]

    use std::future::pending;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    /// Tasks that report the end of the process instead of ending it.
    fn reporting() -> (Tasks, mpsc::UnboundedReceiver<Kind>) {
        let (sender, ended) = mpsc::unbounded_channel();
        (Tasks::ending_process_by(move |kind| _ = sender.send(kind)), ended)
    }

    #[tokio::test]
    async fn panic_of_a_critical_task_ends_the_process() {
        let (tasks, mut ended) = reporting();
        tasks.spawn_critical(Kind::Listener, async { panic!("on purpose") });
        assert_eq!(ended.recv().await, Some(Kind::Listener));
    }

    #[tokio::test]
    async fn return_of_a_critical_task_ends_the_process() {
        let (tasks, mut ended) = reporting();
        tasks.spawn_critical(Kind::Dialer, async {});
        assert_eq!(ended.recv().await, Some(Kind::Dialer));
    }

    #[tokio::test]
    async fn stopped_critical_task_does_not_end_the_process() {
        let (tasks, mut ended) = reporting();
        tasks.spawn_critical(Kind::Listener, pending());
        tasks.stop(Duration::from_secs(10)).await;
        assert!(ended.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn restarted_task_runs_again_after_growing_pauses() {
        let (tasks, mut ended) = reporting();
        let (sender, mut starts) = mpsc::unbounded_channel();
        tasks.spawn_restarting(Kind::LeaderLog, move || {
            let _ = sender.send(tokio::time::Instant::now());
            async { panic!("on purpose") }
        });
        let mut times = Vec::new();
        while times.len() < 4 {
            times.extend(starts.recv().await);
        }
        let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses[0] >= RESTART_MIN && pauses.is_sorted(), "pauses: {pauses:?}");
        assert!(ended.try_recv().is_err(), "the process goes on");
        tasks.stop(Duration::from_secs(10)).await;
    }

    #[tokio::test]
    async fn panic_in_a_connection_ends_only_that_connection() {
        let (tasks, mut ended) = reporting();
        let (open, mut closed) = mpsc::channel::<()>(1);
        tasks.spawn_connection(Kind::Link, async move {
            let _open = open;
            panic!("on purpose")
        });
        assert_eq!(closed.recv().await, None, "what the task owned is dropped");
        tasks.stop(Duration::from_secs(10)).await;
        assert!(ended.try_recv().is_err(), "the process goes on");
    }

    #[tokio::test]
    async fn stop_waits_until_tasks_have_dropped_what_they_own() {
        let tasks = Tasks::default();
        let owned = Arc::new(AtomicU32::new(0));
        for _ in 0..3 {
            let owned = scopeguard::guard(owned.clone(), |owned| _ = owned.fetch_add(1, Ordering::SeqCst));
            tasks.spawn_connection(Kind::Operator, async move {
                let _owned = owned;
                pending().await
            });
        }
        tasks.stop(Duration::from_secs(10)).await;
        assert_eq!(owned.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn cancelled_group_leaves_other_groups_running() {
        let (tasks, mut ended) = reporting();
        let group = tasks.group();
        let (inner, mut inner_closed) = mpsc::channel::<()>(1);
        let (outer, mut outer_closed) = mpsc::channel::<()>(1);
        group.spawn_critical(Kind::Listener, async move {
            inner.closed().await;
        });
        tasks.spawn_critical(Kind::Listener, async move {
            outer.closed().await;
        });
        group.cancel();
        assert_eq!(inner_closed.recv().await, None);
        assert!(outer_closed.try_recv() == Err(mpsc::error::TryRecvError::Empty), "it still runs");
        tasks.stop(Duration::from_secs(10)).await;
        assert!(ended.try_recv().is_err());
    }
}
