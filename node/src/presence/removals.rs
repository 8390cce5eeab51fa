//! Taking ended sessions out of the tables; proposed again until it is decided (R11).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use limes_raft::ProposeError;
use limes_routing::{Event, SessionNo};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::node::Node;
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
}

#[derive(Debug, Default)]
struct Undecided {
    waiting: VecDeque<Event>,
    proposed: Vec<Event>,
}

impl Removals {
    pub(super) fn new() -> Self {
        Removals { undecided: Mutex::default(), some: Notify::new() }
    }

    fn undecided(&self) -> MutexGuard<'_, Undecided> {
        self.undecided.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A session has ended; what it had in the tables goes.
pub(crate) fn session_closed(node: &Node, no: u64) {
    let removed = node.sessions.remove(no);
    // Only now: a takeover that is being applied expects notices for sessions that it finds.
    drop(node.presence.take_notices(no));
    let Some(entry) = removed else { return };
    match entry.who {
        SessionOwner::Edge(edge, Some(incarnation)) => {
            node.directory.remove(edge, incarnation);
            node.presence.removals.push(Event::EdgeOffline { edge, incarnation });
        }
        SessionOwner::Service(service, true) => {
            let session = SessionNo(no);
            node.presence.removals.push(Event::ServiceOffline { service, session });
        }
        // Not applied yet: whoever sees it applied finds no session and pushes the removal.
        SessionOwner::Edge(_, None) | SessionOwner::Service(_, false) => {}
    }
}

/// Waits until every removal has been proposed and decided.
pub(crate) async fn settled(node: &Node) {
    while !node.presence.removals.is_empty() {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Proposes removals for as long as the node runs.
pub(super) async fn run(node: Arc<Node>) {
    let removals = &node.presence.removals;
    loop {
        if removals.is_empty() {
            removals.some.notified().await;
        }
        let Some(replica) = node.replica() else {
            sleep(AGAIN).await;
            continue;
        };
        let (mut waiting, mut again) = (Vec::new(), Vec::new());
        for event in removals.take() {
            match replica.proposer().begin(event.clone()) {
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
