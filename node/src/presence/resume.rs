//! Coming back after this node was declared down while it was not: each session that it still holds
//! is revived if its row is still there; what cannot be revived is closed (R5).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use limes_raft::ProposeError;
use limes_routing::{Event, NodeId, SessionNo, Tables, Verdict};
use limes_wire::Code;
use limes_wire::frame::GoAway;
use tokio::time::sleep;
use tracing::{info, warn};

use super::context::Presence;
use crate::router::message::SessionCommand;
use crate::router::registry::{SessionEntry, SessionOwner};

/// Pause before resuming is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// Claims proposed together: far fewer than may wait to be proposed, so that newcomers find room.
const AT_ONCE: usize = 4_096;

/// Resumes each time that a new epoch has begun.
pub(super) async fn run(presence: Arc<Presence>) {
    loop {
        presence.resume.notified().await;
        loop {
            match resume(&presence).await {
                Ok(()) => break,
                // Another epoch is on its way, and with it another try.
                Err(ProposeError::Fenced) => break warn!("declared down again while resuming"),
                Err(error) => warn!(%error, "resuming was cut short; once more"),
            }
            sleep(AGAIN).await;
        }
    }
}

async fn resume(presence: &Presence) -> Result<(), ProposeError> {
    let (Some(replica), Some(me)) = (presence.consensus.replica(), presence.consensus.node()) else {
        return Ok(());
    };
    let proposer = replica.proposer();
    let claims = replica.read(|tables| unrevived(claims(presence), me, tables));
    let (mut revived, mut lost) = (0, 0);
    for some in claims.chunks(AT_ONCE) {
        let mut waiting = Vec::with_capacity(some.len());
        for (no, entry, event) in some {
            waiting.push((*no, entry, proposer.enqueue(event.clone())?));
        }
        for (no, entry, told) in waiting {
            let verdict = told.await.unwrap_or(Err(ProposeError::Stopped))?;
            match decided(presence, no, entry, &verdict) {
                true => revived += 1,
                false => lost += 1,
            }
        }
    }
    proposer.submit(Event::ResumeEnd {}).await?;
    info!(revived, lost, "back after having been declared down");
    Ok(())
}

/// Without what an earlier attempt has revived: else one that was cut short would begin anew for ever.
pub(super) fn unrevived(
    claims: Vec<(u64, SessionEntry, Event)>,
    me: NodeId,
    tables: &Tables,
) -> Vec<(u64, SessionEntry, Event)> {
    let services: HashSet<u64> =
        tables.services().filter(|row| row.home.node == me).map(|row| row.home.session.0).collect();
    let lives = |no: u64, who: SessionOwner| match who {
        SessionOwner::Edge(edge, Some(incarnation)) => {
            tables.edge(edge).is_some_and(|row| row.home.node == me && row.home.incarnation == incarnation)
        }
        SessionOwner::Edge(_, None) => false,
        SessionOwner::Service(..) => services.contains(&no),
    };
    claims.into_iter().filter(|(no, entry, _)| !lives(*no, entry.who)).collect()
}

/// What this node says of the sessions that it holds.
pub(super) fn claims(presence: &Presence) -> Vec<(u64, SessionEntry, Event)> {
    let all = presence.sessions.all().into_iter();
    let claim = |(no, entry): (u64, SessionEntry)| {
        let event = match entry.who {
            SessionOwner::Edge(edge, Some(incarnation)) => Event::EdgeResumed { edge, incarnation },
            SessionOwner::Service(service, true) => Event::ServiceResumed { service, session: SessionNo(no) },
            // Its "online" belongs to the old epoch; its admission fails by itself.
            SessionOwner::Edge(_, None) | SessionOwner::Service(_, false) => return None,
        };
        Some((no, entry, event))
    };
    all.filter_map(claim).collect()
}

/// Closes the session if its row could not be revived; says whether it lives on.
pub(super) fn decided(presence: &Presence, no: u64, entry: &SessionEntry, verdict: &Verdict) -> bool {
    if matches!(verdict, Verdict::Accepted(_)) {
        return true;
    }
    // An earlier attempt was given up and came through after all: the session has a newer generation
    // than the one that this attempt spoke of.
    if presence.sessions.get(no).is_some_and(|now| now.who != entry.who) {
        return true;
    }
    let text = "this node was declared down meanwhile, and the session is no longer in the tables";
    entry.handle.command_urgent(SessionCommand::Close(GoAway::new(Code::REPLACED, text)));
    false
}
