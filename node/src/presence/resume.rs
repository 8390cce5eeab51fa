//! Coming back after this node was declared down while it was not: each session that it still holds
//! is revived if its row is still there; what cannot be revived is closed (R5).

use std::sync::Arc;
use std::time::Duration;

use limes_raft::ProposeError;
use limes_routing::{Event, SessionNo, Verdict};
use limes_wire::Code;
use limes_wire::frame::GoAway;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::directory::{Entry, Who};
use crate::mail::Mail;
use crate::node::Node;

/// Pause before resuming is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Resumes each time that a new epoch has begun.
pub(super) async fn run(node: Arc<Node>) {
    loop {
        node.presence.resume.notified().await;
        loop {
            match resume(&node).await {
                Ok(()) => break,
                // Another epoch is on its way, and with it another try.
                Err(ProposeError::Fenced) => break warn!("declared down again while resuming"),
                Err(error) => warn!(%error, "resuming was cut short; once more"),
            }
            sleep(AGAIN).await;
        }
    }
}

async fn resume(node: &Node) -> Result<(), ProposeError> {
    let Some(replica) = node.replica() else { return Ok(()) };
    let proposer = replica.proposer();
    let mut waiting = Vec::new();
    for (no, entry) in node.sessions.all() {
        let event = match entry.who {
            Who::Edge(edge, Some(incarnation)) => Event::EdgeResumed { edge, incarnation },
            Who::Service(service, true) => Event::ServiceResumed { service, session: SessionNo(no) },
            // Its "online" belongs to the old epoch; its admission fails by itself.
            Who::Edge(_, None) | Who::Service(_, false) => continue,
        };
        waiting.push((entry, proposer.begin(event)?));
    }
    let (mut revived, mut lost) = (0, 0);
    for (entry, told) in waiting {
        match told.await.unwrap_or(Err(ProposeError::Stopped))? {
            Verdict::Accepted(_) => revived += 1,
            _ => {
                lost += 1;
                close(&entry);
            }
        }
    }
    proposer.submit(Event::ResumeEnd {}).await?;
    info!(revived, lost, "back after having been declared down");
    Ok(())
}

fn close(entry: &Entry) {
    let text = "this node was declared down meanwhile, and the session is no longer in the tables";
    entry.outbox.push_always(Mail::Close(GoAway::new(Code::REPLACED, text)));
}
