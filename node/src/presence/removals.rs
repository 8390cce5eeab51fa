//! Taking ended sessions out of the tables; proposed again until it is decided (R11).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use limes_raft::ProposeError;
use limes_routing::{Event, SessionNo};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::context::Presence;
use crate::router::registry::SessionOwner;

/// Removals proposed together.
const BATCH: usize = 500;
/// Pause after the cluster could not agree.
const AGAIN: Duration = Duration::from_millis(200);

/// Removals that are not decided yet: no more than there were sessions.
#[derive(Debug)]
pub(super) struct Removals {
    undecided: Mutex<Undecided>,
    some: Notify,
    /// Fires each time that proposed removals are decided.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Undecided {
    waiting: VecDeque<Event>,
    proposed: Vec<Event>,
}

impl Removals {
    pub(super) fn new() -> Self {
        Removals { undecided: Mutex::default(), some: Notify::new(), changed: Notify::new() }
    }

    fn undecided(&self) -> MutexGuard<'_, Undecided> {
        self.undecided.lock()
    }

    pub(super) fn push(&self, event: Event) {
        self.undecided().waiting.push_back(event);
        self.some.notify_one();
    }

    /// Takes some to be proposed; they stay undecided until [`Removals::decided`].
    pub(super) fn take(&self) -> Vec<Event> {
        let mut undecided = self.undecided();
        let count = undecided.waiting.len().min(BATCH);
        undecided.proposed = undecided.waiting.drain(..count).collect();
        undecided.proposed.clone()
    }

    /// What was taken last is decided, but for these, which wait again.
    pub(super) fn decided(&self, but: Vec<Event>) {
        let mut undecided = self.undecided();
        undecided.proposed.clear();
        undecided.waiting.extend(but);
        drop(undecided);
        self.changed.notify_waiters();
    }

    /// Waits until this removal is neither waiting nor proposed.
    pub(super) async fn wait_decided(&self, event: &Event) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.has(event) {
                return;
            }
            changed.await;
        }
    }

    /// Whether this removal waits or is proposed.
    pub(super) fn has(&self, event: &Event) -> bool {
        let undecided = self.undecided();
        undecided.waiting.contains(event) || undecided.proposed.contains(event)
    }

    pub(super) fn is_empty(&self) -> bool {
        let undecided = self.undecided();
        undecided.waiting.is_empty() && undecided.proposed.is_empty()
    }
}

impl Presence {
    /// A session has ended: removes what it had in the tables. Later calls change nothing.
    pub(crate) fn session_closed(&self, no: u64) {
        let removed = self.sessions.remove(no);
        // After the removal: a takeover that is being applied adds confirmations to sessions that it finds.
        drop(self.take_confirmations(no));
        let Some(entry) = removed else { return };
        match entry.who {
            SessionOwner::Edge(edge, Some(incarnation)) => {
                self.edges.remove(edge, incarnation);
                self.removals.push(Event::EdgeOffline { edge, incarnation });
            }
            SessionOwner::Service(service, true) => {
                let session = SessionNo(no);
                self.removals.push(Event::ServiceOffline { service, session });
            }
            // Not applied yet: the applier will find no session and push the removal.
            SessionOwner::Edge(_, None) | SessionOwner::Service(_, false) => {}
        }
    }

    /// Waits until every removal has been proposed and decided.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn removals_settled(&self) {
        loop {
            let changed = self.removals.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.removals.is_empty() {
                return;
            }
            changed.await;
        }
    }
}

/// Proposes removals for as long as the node runs.
pub(super) async fn run(presence: Arc<Presence>) {
    let removals = &presence.removals;
    loop {
        if removals.is_empty() {
            removals.some.notified().await;
        }
        let Some(replica) = presence.consensus.replica() else {
            sleep(AGAIN).await;
            continue;
        };
        let (mut waiting, mut again) = (Vec::new(), Vec::new());
        for event in removals.take() {
            match replica.proposer().enqueue(event.clone()) {
                Ok(told) => waiting.push((event, told)),
                Err(_) => again.push(event),
            }
        }
        for (event, told) in waiting {
            // A verdict, even "no longer there", settles it.
            if let Err(_) | Ok(Err(ProposeError::NoQuorum | ProposeError::Fenced)) = told.await {
                again.push(event);
            }
        }
        let failed = !again.is_empty();
        removals.decided(again);
        if failed {
            sleep(AGAIN).await;
        }
    }
}
