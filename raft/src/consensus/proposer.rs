//! The proposer: this node's events in numbered batches, each applied once and in order (R3).

use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Batch, Epoch, Event, Origin, Reason, Verdict};
use metrics::{Gauge, Histogram};
use scopeguard::ScopeGuard;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::member::Member;
use super::propose::{ProposeError, now_ms, propose_until_applied};
use crate::tasks::{TaskKind, Tasks};

/// The most events in one batch.
const BATCH: usize = 500;
/// Bytes at which a batch takes no more events.
const BATCH_BYTES: usize = 1 << 20;
/// Events that may wait for a batch.
const QUEUE: usize = 65_536;

/// The answer to one event.
type Answer = Result<Verdict, ProposeError>;

/// Counts an event as pending until it is dropped.
type Pending = ScopeGuard<Gauge, fn(Gauge)>;

fn pending(gauge: &Gauge) -> Pending {
    gauge.increment(1);
    let decrement: fn(Gauge) = |gauge| gauge.decrement(1);
    scopeguard::guard(gauge.clone(), decrement)
}

/// Where the answer to one event goes.
struct Reply {
    answer: oneshot::Sender<Answer>,
    submitted: Instant,
    _pending: Pending,
}

/// An event that waits for a batch.
type Submission = (Event, Reply);

/// Proposes events of this node. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Submission>,
    queue_depth: Gauge,
}

impl Proposer {
    pub(crate) fn start(member: Arc<Member>, tasks: &Tasks) -> Self {
        let (queue, submissions) = mpsc::channel(QUEUE);
        let queue_depth = member.state.metrics.queue_depth.clone();
        let batcher = Batcher { member, submissions, overflow: None, epoch: None, number: 0, stalled: false };
        tasks.spawn_once(TaskKind::Proposer, batcher.run());
        Proposer { queue, queue_depth }
    }

    /// Proposes an event and waits until this node has applied it. Events that one caller submits one after
    /// the other are applied in that order.
    ///
    /// # Errors
    /// [`ProposeError`]. Without a quorum it fails after
    /// [`Timing::no_quorum_after`](crate::Timing::no_quorum_after), or sooner if earlier events have waited
    /// that long already.
    ///
    /// # Cancel safety
    /// The event may be applied anyway.
    pub async fn submit(&self, event: Event) -> Result<Verdict, ProposeError> {
        self.enqueue(event)?.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// As [`Proposer::submit`], in two steps: when this returns, the event has its place in the order.
    ///
    /// # Errors
    /// [`ProposeError::Busy`] or [`ProposeError::Stopped`].
    pub fn enqueue(
        &self,
        event: Event,
    ) -> Result<oneshot::Receiver<Result<Verdict, ProposeError>>, ProposeError> {
        let (answer, receiver) = oneshot::channel();
        let reply = Reply { answer, submitted: Instant::now(), _pending: pending(&self.queue_depth) };
        match self.queue.try_send((event, reply)) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ProposeError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ProposeError::Stopped),
        }
    }
}

/// The proposer's task. One batch is in flight at a time. An event starts a batch at once if none is in
/// flight; otherwise events gather for the next batch.
struct Batcher {
    member: Arc<Member>,
    submissions: mpsc::Receiver<Submission>,
    /// Taken from the queue, but too large for the batch before.
    overflow: Option<Submission>,
    epoch: Option<Epoch>,
    number: u64,
    /// Whether the last batch has waited for a quorum without success.
    stalled: bool,
}

impl Batcher {
    async fn run(mut self) {
        while let Some((events, replies)) = self.gather().await {
            let Some(live) = self.live_epoch().await else {
                self.stalled = true;
                fail(replies, ProposeError::NoQuorum);
                continue;
            };
            if self.epoch != Some(live) {
                (self.epoch, self.number) = (Some(live), 0);
            }
            self.number += 1;
            let origin = Origin { node: self.member.node(), epoch: live, number: self.number };
            self.commit(origin, events, replies).await;
        }
    }

    /// Waits for an event, and takes the others that have gathered.
    async fn gather(&mut self) -> Option<(Vec<Event>, Vec<Reply>)> {
        let first = match self.overflow.take() {
            Some(first) => first,
            None => self.submissions.recv().await?,
        };
        let mut bytes = approximate_bytes(&first.0);
        let (mut events, mut replies) = (vec![first.0], vec![first.1]);
        while events.len() < BATCH {
            let Ok((event, reply)) = self.submissions.try_recv() else { break };
            bytes += approximate_bytes(&event);
            if bytes > BATCH_BYTES {
                self.overflow = Some((event, reply));
                break;
            }
            events.push(event);
            replies.push(reply);
        }
        Some((events, replies))
    }

    fn patience(&self) -> Duration {
        let timing = self.member.timing;
        if self.stalled { timing.still_no_quorum_after() } else { timing.no_quorum_after() }
    }

    async fn live_epoch(&self) -> Option<Epoch> {
        let mut epoch = self.member.state.epoch();
        let live = timeout(self.patience(), epoch.wait_for(Option::is_some)).await;
        live.ok()?.ok().and_then(|epoch| *epoch)
    }

    /// Proposes one batch until it is applied or its epoch is over. A batch is not given up while the epoch
    /// lasts, because numbers must not be skipped. But when the patience ends, its callers get
    /// [`ProposeError::NoQuorum`], and so does every event that is submitted until the batch is applied.
    async fn commit(&mut self, origin: Origin, events: Vec<Event>, replies: Vec<Reply>) {
        let member = self.member.clone();
        let metrics = &member.state.metrics;
        metrics.batch_events.record(events.len() as f64);
        let bytes = Batch { origin: Some(origin), time_ms: now_ms(), events }.encode();
        let mut verdicts = member.state.expect_verdicts(origin);
        let mut epoch = member.state.epoch();
        let mut patience = std::pin::pin!(sleep(self.patience()));
        let mut applied = std::pin::pin!(propose_until_applied(&member, bytes));
        let mut replies = Some(replies);
        loop {
            tokio::select! {
                biased;
                verdicts = &mut verdicts => {
                    self.stalled = false;
                    let verdicts = verdicts.unwrap_or_default();
                    return answer(&metrics.commit_seconds, replies.take().unwrap_or_default(), verdicts);
                }
                // Apply sends the verdicts before it publishes its index. So the verdicts are there now,
                // unless a snapshot has skipped the batch.
                () = &mut applied => {
                    self.stalled = false;
                    let replies = replies.take().unwrap_or_default();
                    return match verdicts.try_recv() {
                        Ok(verdicts) => answer(&metrics.commit_seconds, replies, verdicts),
                        Err(_) => fail(replies, ProposeError::NoQuorum),
                    };
                }
                _ = epoch.wait_for(|epoch| *epoch != Some(origin.epoch)) => {
                    return fail(replies.take().unwrap_or_default(), ProposeError::Fenced);
                }
                () = &mut patience, if replies.is_some() => {
                    self.stalled = true;
                    fail(replies.take().unwrap_or_default(), ProposeError::NoQuorum);
                    if let Some((_, reply)) = self.overflow.take() {
                        fail(vec![reply], ProposeError::NoQuorum);
                    }
                }
                Some((_, late)) = self.submissions.recv(), if replies.is_none() => {
                    fail(vec![late], ProposeError::NoQuorum);
                }
            }
        }
    }
}

fn answer(commit_seconds: &Histogram, replies: Vec<Reply>, verdicts: Vec<Verdict>) {
    for (reply, verdict) in replies.into_iter().zip(verdicts) {
        commit_seconds.record(reply.submitted.elapsed());
        let _ = reply.answer.send(match verdict {
            Verdict::Rejected(Reason::Fenced) => Err(ProposeError::Fenced),
            verdict => Ok(verdict),
        });
    }
}

fn fail(replies: Vec<Reply>, error: ProposeError) {
    for reply in replies {
        let _ = reply.answer.send(Err(error));
    }
}

/// About how many bytes an event takes in a batch.
fn approximate_bytes(event: &Event) -> usize {
    let names = |names: &[Box<str>]| names.iter().map(|name| name.len() + 2).sum();
    64 + match event {
        Event::EdgeOnline { meta, addr, .. } | Event::CallbackOwed { meta, addr, .. } => {
            meta.len() + addr.len()
        }
        Event::ServiceOnline { name, meta, addr, .. } => name.len() + meta.len() + addr.len(),
        Event::MethodsRegistered { names: all, .. }
        | Event::MethodsWithdrawn { names: all, .. }
        | Event::TopicsSubscribed { names: all, .. }
        | Event::TopicsUnsubscribed { names: all, .. } => names(all),
        _ => 0,
    }
}
