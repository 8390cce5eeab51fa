//! Revives rows after this node was declared down while it was running: each session that the node still
//! holds is revived if its row still exists; a session that cannot be revived is closed (R5).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use limes_raft::{ProposeError, Replica};
use limes_routing::{Event, NodeId, SessionNo, Tables, Verdict};
use limes_wire::Code;
use limes_wire::frame::GoAway;
use tokio::time::sleep;
use tracing::{info, warn};

use super::context::Presence;
use crate::router::message::SessionCommand;
use crate::router::registry::{SessionEntry, SessionOwner};

/// The pause before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Claims proposed together: far fewer than the proposer may queue, so that admissions find room.
const BATCH: usize = 4_096;

/// A session that this node holds, and the event that revives its row.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// The local session number.
    pub(super) no: u64,
    /// The session when the claim was made.
    pub(super) entry: SessionEntry,
    /// Revives the row.
    pub(super) event: Event,
}

/// Resumes each time that a new epoch has begun.
pub(super) async fn run(presence: Arc<Presence>, replica: Replica) {
    loop {
        presence.resume.notified().await;
        loop {
            match resume(&presence, &replica).await {
                Ok(()) => break,
                // Another epoch follows, and with it another attempt.
                Err(ProposeError::Fenced) => break warn!("declared down again while resuming"),
                Err(error) => warn!(%error, "cannot finish resuming; trying again"),
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

async fn resume(presence: &Presence, replica: &Replica) -> Result<(), ProposeError> {
    let Some(me) = presence.consensus.node() else { return Ok(()) };
    let proposer = replica.proposer();
    let claims = replica.read(|tables| unrevived(claims(presence), me, tables));
    let (mut revived, mut lost) = (0, 0);
    for batch in claims.chunks(BATCH) {
        let mut proposed = Vec::with_capacity(batch.len());
        for claim in batch {
            proposed.push((claim, proposer.enqueue(claim.event.clone())?));
        }
        for (claim, verdict) in proposed {
            let verdict = verdict.await.unwrap_or(Err(ProposeError::Stopped))?;
            match decided(presence, claim, &verdict) {
                true => revived += 1,
                false => lost += 1,
            }
        }
    }
    proposer.submit(Event::ResumeEnd {}).await?;
    info!(revived, lost, "resumed after having been declared down");
    Ok(())
}

/// The claims without those that an earlier attempt has revived. Otherwise an attempt that fails half-way would
/// repeat its first half for ever.
pub(super) fn unrevived(claims: Vec<Claim>, me: NodeId, tables: &Tables) -> Vec<Claim> {
    let services: HashSet<u64> =
        tables.services().filter(|row| row.home.node == me).map(|row| row.home.session.0).collect();
    let is_revived = |claim: &Claim| match claim.entry.owner {
        SessionOwner::Edge(edge, Some(incarnation)) => {
            tables.edge(edge).is_some_and(|row| row.home.node == me && row.home.incarnation == incarnation)
        }
        SessionOwner::Edge(_, None) => false,
        SessionOwner::Service(..) => services.contains(&claim.no),
    };
    claims.into_iter().filter(|claim| !is_revived(claim)).collect()
}

/// The claims of this node: one for each session that it holds and that was in the tables.
pub(super) fn claims(presence: &Presence) -> Vec<Claim> {
    let claim = |(no, entry): (u64, SessionEntry)| {
        let event = match entry.owner {
            SessionOwner::Edge(edge, Some(incarnation)) => Event::EdgeResumed { edge, incarnation },
            SessionOwner::Service(service, true) => Event::ServiceResumed { service, session: SessionNo(no) },
            // Its "online" belongs to the old epoch, so its admission fails.
            SessionOwner::Edge(_, None) | SessionOwner::Service(_, false) => return None,
        };
        Some(Claim { no, entry, event })
    };
    presence.sessions.all().into_iter().filter_map(claim).collect()
}

/// Closes the session if its row could not be revived; returns whether the session continues.
pub(super) fn decided(presence: &Presence, claim: &Claim, verdict: &Verdict) -> bool {
    if matches!(verdict, Verdict::Accepted(_)) {
        return true;
    }
    // An earlier attempt was given up and committed after all: the session has a newer generation than the claim.
    if presence.sessions.get(claim.no).is_some_and(|now| now.owner != claim.entry.owner) {
        return true;
    }
    let text = "this node was declared down meanwhile, and the session is no longer in the tables";
    claim.entry.handle.command_urgent(SessionCommand::Close(GoAway::new(Code::REPLACED, text)));
    false
}
