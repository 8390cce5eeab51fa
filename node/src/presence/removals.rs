//! Taking ended sessions out of the tables; proposed again until it is decided (R11).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use limes_raft::ProposeError;
use limes_routing::{Event, SessionNo};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::directory::Who;
use crate::node::Node;

/// Removals proposed together.
const BATCH: usize = 500;
/// Pause after the cluster could not agree.
const AGAIN: Duration = Duration::from_millis(200);

/// Removals that are not decided yet: no more than there were sessions.
#[derive(Debug)]
pub(super) struct Removals {
    queue: Mutex<VecDeque<Event>>,
    some: Notify,
}

impl Removals {
    pub(super) fn new() -> Self {
        Removals { queue: Mutex::default(), some: Notify::new() }
    }

    pub(super) fn push(&self, event: Event) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.some.notify_one();
    }

    fn take(&self) -> Vec<Event> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.len().min(BATCH);
        queue.drain(..count).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A session has ended; what it had in the tables goes.
pub(crate) fn session_closed(node: &Node, no: u64) {
    let Some(entry) = node.sessions.remove(no) else { return };
    match entry.who {
        Who::Edge(edge, Some(incarnation)) => {
            node.directory.remove(edge, incarnation);
            node.presence.removals.push(Event::EdgeOffline { edge, incarnation });
        }
        Who::Service(service, true) => {
            let session = SessionNo(no);
            node.presence.removals.push(Event::ServiceOffline { service, session });
        }
        // Not applied yet: whoever sees it applied finds no session and pushes the removal.
        Who::Edge(_, None) | Who::Service(_, false) => {}
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
        let mut waiting = Vec::new();
        let mut failed = false;
        for event in removals.take() {
            match replica.proposer().begin(event.clone()) {
                Ok(told) => waiting.push((event, told)),
                Err(_) => {
                    failed = true;
                    removals.push(event);
                }
            }
        }
        for (event, told) in waiting {
            // A verdict, even "no longer there", settles it.
            if let Err(_) | Ok(Err(ProposeError::NoQuorum | ProposeError::Fenced)) = told.await {
                failed = true;
                removals.push(event);
            }
        }
        if failed {
            sleep(AGAIN).await;
        }
    }
}
