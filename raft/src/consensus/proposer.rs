//! Proposing: this node's events in numbered batches, each applied once and in order (R3).

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use limes_routing::{Batch, Epoch, Event, Origin, Reason, Verdict};
use metrics::{Gauge, Histogram};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::consensus::member::Member;
use crate::tasks::Tasks;
use crate::types::Data;

/// Events in one batch, at most.
const BATCH: usize = 500;
/// Bytes at which a batch takes no more events.
const BATCH_BYTES: usize = 1 << 20;
/// Events that may wait.
const WAITING: usize = 65_536;
/// Pause before the leader is looked for again.
const AGAIN: Duration = Duration::from_millis(20);

/// Why an event was not decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader, or no quorum behind it: it may still commit later.
    #[error("the cluster has no quorum")]
    NoQuorum,
    /// The node was declared down meanwhile: it did not happen, or belongs to a life that is over.
    #[error("this node was declared down meanwhile")]
    Fenced,
    /// Too many events wait.
    #[error("too many changes wait to be agreed on")]
    Busy,
    /// The member is stopping.
    #[error("this node is stopping")]
    Stopped,
}

/// Counts an event as pending until it is dropped.
#[derive(Debug)]
struct Pending(Gauge);

impl Pending {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Pending(gauge.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Where the answer to one event goes.
#[derive(Debug)]
struct Reply {
    sender: oneshot::Sender<Result<Verdict, ProposeError>>,
    submitted: Instant,
    _pending: Pending,
}

type Waiting = (Event, Reply);

/// Proposes events of this node; cheap to clone.
#[derive(Debug, Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Waiting>,
    queue_depth: Gauge,
}

impl Proposer {
    pub(crate) fn start(member: Arc<Member>, tasks: &Tasks) -> Self {
        let (queue, events) = mpsc::channel(WAITING);
        let queue_depth = member.shared.metrics.queue_depth.clone();
        tasks.spawn(Batches { member, events, left: None, epoch: None, number: 0, stalled: false }.run());
        Proposer { queue, queue_depth }
    }

    /// Proposes an event and waits until this node has applied it. Events of one caller that are
    /// submitted one after the other are applied in that order.
    ///
    /// # Errors
    /// [`ProposeError`]; without a quorum after
    /// [`Timing::no_quorum_after`](crate::Timing::no_quorum_after), and soon if others have waited so long
    /// already. Cancel safety: an event whose future is dropped may still be applied.
    pub async fn submit(&self, event: Event) -> Result<Verdict, ProposeError> {
        self.begin(event)?.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// As [`Proposer::submit`], in two steps: the event has its place in the order when this
    /// returns.
    ///
    /// # Errors
    /// [`ProposeError::Busy`] or [`ProposeError::Stopped`].
    pub fn begin(
        &self,
        event: Event,
    ) -> Result<oneshot::Receiver<Result<Verdict, ProposeError>>, ProposeError> {
        let (sender, receiver) = oneshot::channel();
        let pending = Pending::new(&self.queue_depth);
        let reply = Reply { sender, submitted: Instant::now(), _pending: pending };
        match self.queue.try_send((event, reply)) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ProposeError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ProposeError::Stopped),
        }
    }
}

/// The task that batches: one batch is in flight at a time, at once when something comes; while it
/// is, the next gathers.
struct Batches {
    member: Arc<Member>,
    events: mpsc::Receiver<Waiting>,
    /// Taken from the queue, but too much for the batch before.
    left: Option<Waiting>,
    epoch: Option<Epoch>,
    number: u64,
    /// The last attempt has waited in vain for a quorum.
    stalled: bool,
}

impl Batches {
    async fn run(mut self) {
        while let Some((events, tell)) = self.gather().await {
            let Some(live) = self.live_epoch().await else {
                self.stalled = true;
                fail(tell, ProposeError::NoQuorum);
                continue;
            };
            if self.epoch != Some(live) {
                (self.epoch, self.number) = (Some(live), 0);
            }
            self.number += 1;
            let origin = Origin { node: self.member.node(), epoch: live, number: self.number };
            self.decide(origin, events, tell).await;
        }
    }

    /// Waits for an event, and takes what else is there.
    async fn gather(&mut self) -> Option<(Vec<Event>, Vec<Reply>)> {
        let first = match self.left.take() {
            Some(first) => first,
            None => self.events.recv().await?,
        };
        let mut bytes = weight(&first.0);
        let (mut events, mut tell) = (vec![first.0], vec![first.1]);
        while events.len() < BATCH {
            let Ok((event, told)) = self.events.try_recv() else { break };
            bytes += weight(&event);
            if bytes > BATCH_BYTES {
                self.left = Some((event, told));
                break;
            }
            events.push(event);
            tell.push(told);
        }
        Some((events, tell))
    }

    fn patience(&self) -> Duration {
        let timing = self.member.timing;
        if self.stalled { timing.still_no_quorum_after() } else { timing.no_quorum_after() }
    }

    async fn live_epoch(&self) -> Option<Epoch> {
        let mut epoch = self.member.shared.epoch();
        let live = timeout(self.patience(), epoch.wait_for(Option::is_some)).await;
        live.ok()?.ok().and_then(|epoch| *epoch)
    }

    /// Proposes one batch until it is applied or its epoch is over. Numbers must not be skipped, so
    /// it is not given up while the epoch lives; but after a while those who wait are told, and
    /// whoever comes meanwhile at once.
    async fn decide(&mut self, origin: Origin, events: Vec<Event>, tell: Vec<Reply>) {
        let metrics = self.member.shared.metrics.clone();
        metrics.batch_events.record(events.len() as f64);
        let bytes = Batch { origin: Some(origin), time_ms: now_ms(), events }.encode();
        let mut verdicts = self.member.shared.await_batch(origin);
        let mut epoch = self.member.shared.epoch();
        let mut patience = std::pin::pin!(sleep(self.patience()));
        let mut committed = std::pin::pin!(until_applied(self.member.clone(), bytes));
        let mut tell = Some(tell);
        loop {
            tokio::select! {
                biased;
                told = &mut verdicts => {
                    self.stalled = false;
                    let told = told.unwrap_or_default();
                    return answer(&metrics.commit_seconds, tell.take().unwrap_or_default(), told);
                }
                // Apply tells the verdicts before it says how far it is: if they were not there a moment
                // ago they are now, unless a snapshot has jumped over the batch.
                () = &mut committed => {
                    self.stalled = false;
                    let tell = tell.take().unwrap_or_default();
                    return match verdicts.try_recv() {
                        Ok(told) => answer(&metrics.commit_seconds, tell, told),
                        Err(_) => fail(tell, ProposeError::NoQuorum),
                    };
                }
                _ = epoch.wait_for(|epoch| *epoch != Some(origin.epoch)) => {
                    return fail(tell.take().unwrap_or_default(), ProposeError::Fenced);
                }
                () = &mut patience, if tell.is_some() => {
                    self.stalled = true;
                    fail(tell.take().unwrap_or_default(), ProposeError::NoQuorum);
                    if let Some((_, tell)) = self.left.take() {
                        fail(vec![tell], ProposeError::NoQuorum);
                    }
                }
                Some((_, late)) = self.events.recv(), if tell.is_none() => {
                    fail(vec![late], ProposeError::NoQuorum);
                }
            }
        }
    }
}

fn answer(commit_seconds: &Histogram, tell: Vec<Reply>, verdicts: Vec<Verdict>) {
    for (tell, verdict) in tell.into_iter().zip(verdicts) {
        commit_seconds.record(tell.submitted.elapsed());
        let _ = tell.sender.send(match verdict {
            Verdict::Rejected(Reason::Fenced) => Err(ProposeError::Fenced),
            verdict => Ok(verdict),
        });
    }
}

fn fail(tell: Vec<Reply>, error: ProposeError) {
    for tell in tell {
        let _ = tell.sender.send(Err(error));
    }
}

/// About how much an event takes in a batch.
fn weight(event: &Event) -> usize {
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

/// Proposes until the batch is in the log and applied here; the same batch may get there twice, and
/// the tables take the first.
async fn until_applied(member: Arc<Member>, bytes: Bytes) {
    let mut applied = member.shared.applied();
    loop {
        if let Some(index) = propose_once(&member, bytes.clone()).await
            && timeout(member.timing.append(), applied.wait_for(|applied| *applied >= index)).await.is_ok()
        {
            return;
        }
        sleep(AGAIN).await;
    }
}

/// One attempt to put a batch into the log, by whichever member leads; gives its index.
async fn propose_once(member: &Member, bytes: Bytes) -> Option<u64> {
    let (leader, addr) = member.leader()?;
    if leader == member.identity.node {
        let write = timeout(member.timing.append(), member.raft.client_write(Data(bytes))).await;
        return write.ok()?.ok().map(|written| written.log_id.index);
    }
    let asked = async { member.clients.ask(&addr)?.propose(bytes).await };
    asked.await.ok()
}

/// Puts an event without a number into the log and waits until this node has applied it. It may get
/// there twice: such events must bear that.
pub(crate) async fn propose_plain(
    member: &Member,
    event: Event,
    time: Duration,
) -> Result<(u64, Verdict), ProposeError> {
    let bytes = Batch { origin: None, time_ms: now_ms(), events: vec![event] }.encode();
    let began = Instant::now();
    let until = began + time;
    let mut applied = member.shared.applied();
    while let Some(asked) = within(until, propose_once(member, bytes.clone())).await {
        if let Some(index) = asked {
            let seen = within(until, applied.wait_for(|applied| *applied >= index)).await;
            seen.ok_or(ProposeError::NoQuorum)?.map_err(|_| ProposeError::Stopped)?;
            let verdict = member.shared.plain_verdict(index).ok_or(ProposeError::NoQuorum)?;
            member.shared.metrics.commit_seconds.record(began.elapsed());
            return Ok((index, verdict));
        }
        sleep(AGAIN).await;
    }
    Err(ProposeError::NoQuorum)
}

async fn within<T>(until: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(until, work).await.ok()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
