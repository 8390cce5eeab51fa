//! Removals of rows that are not decided yet.

use std::collections::VecDeque;

use limes_routing::Event;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Removals proposed together.
const BATCH: usize = 500;

/// Removals that are not decided yet: no more than there were sessions.
#[derive(Debug, Default)]
pub(super) struct RemovalQueue {
    undecided: Mutex<Undecided>,
    /// Fires when a removal is queued.
    queued: Notify,
    /// Fires each time that proposed removals are decided.
    decided: Notify,
}

#[derive(Debug, Default)]
struct Undecided {
    waiting: VecDeque<Event>,
    proposed: Vec<Event>,
}

impl RemovalQueue {
    /// Queues a removal.
    pub(super) fn push(&self, event: Event) {
        self.undecided.lock().waiting.push_back(event);
        self.queued.notify_one();
    }

    /// Waits until a removal is queued; returns at once if some are undecided.
    pub(super) async fn wait_queued(&self) {
        if self.is_empty() {
            self.queued.notified().await;
        }
    }

    /// Takes some removals to be proposed; they stay undecided until [`RemovalQueue::decided`].
    pub(super) fn take(&self) -> Vec<Event> {
        let mut undecided = self.undecided.lock();
        let count = undecided.waiting.len().min(BATCH);
        undecided.proposed = undecided.waiting.drain(..count).collect();
        undecided.proposed.clone()
    }

    /// The removals that were taken last are decided, except `failed`, which are queued again.
    pub(super) fn decided(&self, failed: Vec<Event>) {
        let mut undecided = self.undecided.lock();
        undecided.proposed.clear();
        undecided.waiting.extend(failed);
        drop(undecided);
        self.decided.notify_waiters();
    }

    /// Waits until this removal is neither queued nor proposed.
    pub(super) async fn wait_decided(&self, event: &Event) {
        self.wait_until(|| !self.has(event)).await;
    }

    /// Waits until no removal is queued or proposed.
    pub(super) async fn wait_empty(&self) {
        self.wait_until(|| self.is_empty()).await;
    }

    async fn wait_until(&self, is_done: impl Fn() -> bool) {
        loop {
            let decided = self.decided.notified();
            tokio::pin!(decided);
            decided.as_mut().enable();
            if is_done() {
                return;
            }
            decided.await;
        }
    }

    /// Whether this removal is queued or proposed.
    pub(super) fn has(&self, event: &Event) -> bool {
        let undecided = self.undecided.lock();
        undecided.waiting.contains(event) || undecided.proposed.contains(event)
    }

    fn is_empty(&self) -> bool {
        let undecided = self.undecided.lock();
        undecided.waiting.is_empty() && undecided.proposed.is_empty()
    }
}
