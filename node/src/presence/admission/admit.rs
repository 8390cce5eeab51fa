//! The admission of edges and services.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_raft::Replica;
use limes_routing::{Event, Position, ServiceId, SessionNo};
use limes_wire::frame::{Role, Welcome};
use limes_wire::limits;
use tokio::time::timeout;

use super::edge::{self, AdmittedEdge};
use super::error::{AdmitError, accepted};
use super::pending::{PeerProtocol, PendingAdmission};
use crate::presence::context::Presence;
use crate::router::message::SessionCommand;
use crate::router::registry::{SessionEntry, SessionOwner};
use crate::telemetry::dictionary;
use crate::telemetry::labels::ConnectPhase;

/// How long an admission may take: less than the peer waits for its welcome, and enough to ask two services one
/// after the other ([`crate::presence::callbacks::TIME`] each).
const ADMISSION_TIMEOUT: Duration = limits::HANDSHAKE.saturating_sub(Duration::from_secs(2));

/// Admits a peer, or refuses it; the outcome goes to its session as a command.
///
/// # Cancel safety
/// Not cancel safe: a dropped admission leaves the session without an outcome.
pub(crate) async fn admit(presence: Arc<Presence>, pending: PendingAdmission) {
    let began = Instant::now();
    let outcome = timeout(ADMISSION_TIMEOUT, welcome_of(&presence, &pending)).await;
    match outcome.unwrap_or(Err(AdmitError::Timeout)) {
        Ok(welcome) => {
            presence.telemetry.metrics.connected(ConnectPhase::Admission, began.elapsed());
            if !pending.handle.command(SessionCommand::Welcome(Box::new(welcome))) {
                // It disconnected during the admission, before it was registered as a session.
                presence.session_closed(pending.no);
            }
        }
        Err(error) => {
            // If the event is applied already, or is applied later, this removes its row again.
            presence.session_closed(pending.no);
            let mut goaway = error.goaway();
            goaway.peers = presence.consensus.other_addresses(pending.hello.role);
            presence.telemetry.metrics.increment(dictionary::REFUSED);
            pending.handle.command(SessionCommand::Close(goaway));
        }
    }
}

async fn welcome_of(presence: &Arc<Presence>, pending: &PendingAdmission) -> Result<Welcome, AdmitError> {
    if presence.consensus.is_draining() {
        return Err(AdmitError::Draining);
    }
    if !presence.consensus.is_ready() {
        return Err(AdmitError::Isolated);
    }
    let replica = presence.consensus.replica().ok_or(AdmitError::Starting)?;
    let welcome = match pending.hello.role {
        Role::Edge => {
            let AdmittedEdge { edge, at, ticket } = edge::admit(presence, replica, pending).await?;
            welcome(presence, Role::Edge, edge.0, at, ticket)
        }
        _ => service(presence, replica, pending).await?,
    };
    if presence.consensus.is_draining() {
        // The node began to drain meanwhile and may have advised its sessions before this was one.
        return Err(AdmitError::Draining);
    }
    Ok(welcome)
}

async fn service(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
) -> Result<Welcome, AdmitError> {
    let hello = &pending.hello;
    let id = match hello.claim.filter(|_| pending.protocol == PeerProtocol::Geminio) {
        // Granted without a check, on every node: a client uses the id of its first connection for all others.
        Some(wanted) => wanted,
        None => {
            let reserve = |count| Event::ServiceIdsReserved { count };
            presence.service_ids.next(replica.proposer(), reserve).await?
        }
    };
    let service = ServiceId(id);
    let entry = SessionEntry {
        handle: pending.handle.clone(),
        owner: SessionOwner::Service(service, false),
        silent: false,
    };
    presence.sessions.insert(pending.no, entry);
    let event = Event::ServiceOnline {
        service,
        session: SessionNo(pending.no),
        name: hello.name.as_str().into(),
        instance: hello.instance,
        meta: hello.meta.clone(),
        addr: pending.remote.to_string().into(),
    };
    let began = Instant::now();
    let at = accepted(replica.proposer().submit(event).await)?;
    presence.telemetry.metrics.connected(ConnectPhase::Commit, began.elapsed());
    Ok(welcome(presence, Role::Service, id, at, Bytes::new()))
}

fn welcome(presence: &Presence, role: Role, id: u64, at: Position, ticket: Bytes) -> Welcome {
    Welcome {
        id,
        incarnation: (at.revision.0, at.ordinal),
        cluster: presence.consensus.cluster().unwrap_or_default(),
        node: presence.config.cluster.name.clone(),
        peers: presence.consensus.other_addresses(role),
        ticket,
        ..Welcome::default()
    }
}
