//! Removes the rows of ended sessions from the tables; proposes each removal until it is decided (R11).

use std::sync::Arc;
use std::time::Duration;

use limes_raft::{ProposeError, Replica};
use limes_routing::{Event, SessionNo};
use tokio::time::sleep;

use super::context::Presence;
use crate::router::registry::SessionOwner;

/// The pause after removals that could not be committed.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

impl Presence {
    /// Notes that a session has ended, and queues the removal of its row. Later calls change nothing.
    pub(crate) fn session_closed(&self, no: u64) {
        let removed = self.sessions.remove(no);
        // After the removal: a takeover that is being applied adds confirmations to sessions that it finds.
        drop(self.take_confirmations(no));
        let Some(entry) = removed else { return };
        match entry.owner {
            SessionOwner::Edge(edge, Some(incarnation)) => {
                self.edges.remove(edge, incarnation);
                self.removals.push(Event::EdgeOffline { edge, incarnation });
            }
            SessionOwner::Service(service, true) => {
                let session = SessionNo(no);
                self.removals.push(Event::ServiceOffline { service, session });
            }
            // Not applied yet: the applier will find no session and queue the removal.
            SessionOwner::Edge(_, None) | SessionOwner::Service(_, false) => {}
        }
    }

    /// Waits until every removal has been proposed and decided.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn removals_settled(&self) {
        self.removals.wait_empty().await;
    }
}

/// Proposes removals for as long as the node runs.
pub(super) async fn run(presence: Arc<Presence>, replica: Replica) {
    let removals = &presence.removals;
    loop {
        removals.wait_queued().await;
        let (mut proposed, mut failed) = (Vec::new(), Vec::new());
        for event in removals.take() {
            match replica.proposer().enqueue(event.clone()) {
                Ok(verdict) => proposed.push((event, verdict)),
                Err(_) => failed.push(event),
            }
        }
        for (event, verdict) in proposed {
            // A verdict, even "no such row", settles the removal.
            if let Err(_) | Ok(Err(ProposeError::NoQuorum | ProposeError::Fenced)) = verdict.await {
                failed.push(event);
            }
        }
        let must_pause = !failed.is_empty();
        removals.decided(failed);
        if must_pause {
            sleep(RETRY_PAUSE).await;
        }
    }
}
