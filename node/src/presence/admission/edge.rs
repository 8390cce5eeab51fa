//! The admission of an edge: its id, the services' consent, its row in the tables.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::join_all;
use limes_raft::{ProposeError, Replica};
use limes_routing::{EdgeId, Event, Incarnation, Position, SessionNo};
use limes_wire::callback::{EDGE_OFFLINE, EDGE_ONLINE, EdgeFacts, GET_EDGE_ID};
use limes_wire::frame::Hello;
use limes_wire::{Code, limits};
use tokio::time::{timeout, timeout_at};
use tracing::warn;

use super::error::{AdmitError, accepted};
use super::pending::{PeerProtocol, PendingAdmission};
use super::pending_online::PendingOnline;
use crate::presence::callbacks::{self, CallbackOutcome};
use crate::presence::context::Presence;
use crate::presence::tickets;
use crate::router::grace::Absentee;
use crate::router::registry::{SessionEntry, SessionOwner};
use crate::router::service_index::Offer;
use crate::telemetry::labels::ConnectPhase;

/// How long the welcome of an edge that takes over a session waits for confirmations (R4): from the old home node
/// that it has closed the old session, or, if that node does not answer, from the other nodes that they route
/// nothing there any more. The old home has the same time to end what other nodes had forwarded to the old
/// session; after that they end it themselves.
pub(crate) const TAKEOVER_WAIT: Duration = Duration::from_millis(50);

/// An edge that has its row.
pub(super) struct AdmittedEdge {
    pub(super) edge: EdgeId,
    /// Its incarnation.
    pub(super) at: Position,
    /// Proves its id to any node.
    pub(super) ticket: Bytes,
}

/// Admits an edge.
pub(super) async fn admit(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
) -> Result<AdmittedEdge, AdmitError> {
    wait_for_providers(presence).await;
    let (edge, at) = loop {
        if !may_skip_barrier(presence, &pending.hello) {
            presence.consensus.barrier(Instant::now() + limits::HANDSHAKE / 2).await?;
        }
        let known = offered(presence);
        let (edge, at) = create_row(presence, replica, pending).await?;
        // A callback counts as not offered only if the tables that contain the new row do not show it either
        // (R4): a service may have registered it on another node.
        if offered(presence).iter().zip(known).all(|(now, before)| before || !now) {
            break (edge, at);
        }
        remove_row(presence, pending.no, edge, Incarnation(at)).await;
    };
    let confirmations = presence.take_confirmations(pending.no);
    if !confirmations.is_empty() {
        // The edge is in the tables already; the wait is for the old home to stop.
        let _ = timeout(TAKEOVER_WAIT, join_all(confirmations)).await;
    }
    let cluster = replica.cluster();
    let key = replica.read(|tables| tables.cluster().and_then(|cluster| cluster.keys.first().cloned()));
    let ticket = key.map_or_else(Bytes::new, |key| tickets::issue(&key, cluster, edge, now_s()));
    Ok(AdmittedEdge { edge, at, ticket })
}

/// Whether admission may skip the read barrier: a fresh id cannot take over a session.
fn may_skip_barrier(presence: &Presence, hello: &Hello) -> bool {
    match offered(presence) {
        [true, true, true] => true,
        // Where ids are not allotted, the edge would be refused.
        [false, false, false] => hello.ticket.is_empty() && presence.config.allot_edge_ids,
        _ => false,
    }
}

/// Waits for services that give ids or are asked about edges, if their node has just stopped or died: without
/// them the edge might get another id, or be admitted without their consent.
async fn wait_for_providers(presence: &Presence) {
    let mut changes = presence.services_changed.subscribe();
    while let Some(until) = missing_provider(presence) {
        let _ = timeout_at(until.into(), changes.changed()).await;
    }
}

/// The end of the reconnect grace of a provider that is missing now.
fn missing_provider(presence: &Presence) -> Option<Instant> {
    let missing = |method: &str| {
        let absentee = || Absentee::Service(Offer::Method(method.to_owned()));
        if callbacks::has_provider(presence, method) {
            return None;
        }
        presence.grace.wait(absentee, Instant::now()).map(|wait| wait.until)
    };
    [GET_EDGE_ID, EDGE_ONLINE].into_iter().find_map(missing)
}

/// Which callbacks services offer, as far as this node knows.
fn offered(presence: &Presence) -> [bool; 3] {
    [GET_EDGE_ID, EDGE_ONLINE, EDGE_OFFLINE].map(|method| callbacks::has_provider(presence, method))
}

/// Creates the row, if the services that offer callbacks consent.
async fn create_row(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
) -> Result<(EdgeId, Position), AdmitError> {
    let hello = &pending.hello;
    let addr = pending.remote.to_string();
    let mut facts = EdgeFacts { edge: 0, meta: hello.meta.clone(), addr: addr.clone() };
    let edge = identify(presence, replica, pending, &facts).await?;
    facts.edge = edge.0;
    let session = SessionNo(pending.no);
    let pending_online = if callbacks::has_provider(presence, EDGE_ONLINE) {
        Some(ask_online(presence, replica, pending, &facts).await?)
    } else {
        None
    };
    // A service that may know of the edge is notified of its end.
    let offline_callback = pending_online.is_some() || callbacks::has_provider(presence, EDGE_OFFLINE);
    let owner = SessionOwner::Edge(edge, None);
    let entry = SessionEntry { handle: pending.handle.clone(), owner, silent: false };
    presence.sessions.insert(pending.no, entry);
    let event = Event::EdgeOnline {
        edge,
        session,
        meta: hello.meta.clone(),
        addr: addr.into(),
        moving: hello.moving,
        offline_callback,
    };
    let began = Instant::now();
    let verdict = replica.proposer().enqueue(event)?;
    let at = accepted(verdict.await.unwrap_or(Err(ProposeError::Stopped)))?;
    presence.telemetry.metrics.connected(ConnectPhase::Commit, began.elapsed());
    if pending_online.is_some_and(|pending| !pending.settle()) {
        return Err(AdmitError::DeclaredDown);
    }
    Ok((edge, at))
}

/// Removes a row that was created without asking the services.
async fn remove_row(presence: &Presence, no: u64, edge: EdgeId, incarnation: Incarnation) {
    presence.sessions.remove(no);
    let removal = Event::EdgeOffline { edge, incarnation };
    presence.removals.push(removal.clone());
    // Waits for the removal to commit; otherwise the retry would look like a takeover of this same session.
    presence.removals.wait_decided(&removal).await;
}

/// The id of the edge: from the service that gives ids, or from the edge's ticket, or a new one.
async fn identify(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
    facts: &EdgeFacts,
) -> Result<EdgeId, AdmitError> {
    if callbacks::has_provider(presence, GET_EDGE_ID)
        && let Some(edge) = ask_id(presence, replica, pending, facts).await?
    {
        return Ok(edge);
    }
    let keys = replica.read(|tables| tables.cluster().map(|c| c.keys.clone()).unwrap_or_default());
    let keys = keys.iter().map(|key| &key[..]);
    if let Some(edge) = tickets::verify(keys, replica.cluster(), &pending.hello.ticket, now_s()) {
        return Ok(edge);
    }
    if !presence.config.allot_edge_ids {
        let native = "no service gives edge ids, and allotting them is off";
        return Err(AdmitError::refused(Code::AUTH, pending.protocol.text(native, "service not online")));
    }
    allot(presence, replica).await
}

/// The id that a service gives; `None` if the last service that gives ids has just gone.
async fn ask_id(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
    facts: &EdgeFacts,
) -> Result<Option<EdgeId>, AdmitError> {
    match callbacks::ask(presence, GET_EDGE_ID, facts, callbacks::TIME).await {
        CallbackOutcome::Accepted(body) => match <[u8; 8]>::try_from(&body[..]).map(u64::from_be_bytes) {
            Ok(0) if pending.protocol == PeerProtocol::Geminio => allot(presence, replica).await.map(Some),
            Ok(id) if id != 0 => Ok(Some(EdgeId(id))),
            _ => {
                let text = pending.protocol.text("get_edge_id gave no id", "illegal edgeID");
                Err(AdmitError::refused(Code::AUTH, text))
            }
        },
        CallbackOutcome::Refused(text) => {
            let text = pending.protocol.text(format!("get_edge_id refused: {text}"), &text);
            Err(AdmitError::refused(Code::AUTH, text))
        }
        CallbackOutcome::Unanswered(failure) if failure.code == Code::NO_METHOD => Ok(None),
        CallbackOutcome::Unanswered(failure) => {
            let text = format!("get_edge_id did not answer: {}", failure.text);
            Err(AdmitError::refused(failure.code, text))
        }
    }
}

/// An edge id that no edge has.
async fn allot(presence: &Arc<Presence>, replica: &Replica) -> Result<EdgeId, AdmitError> {
    let reserve = |count| Event::EdgeIdsReserved { count };
    Ok(EdgeId(presence.edge_ids.next(replica.proposer(), reserve).await?))
}

/// Asks a service whether the edge may connect.
async fn ask_online<'a>(
    presence: &'a Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
    facts: &'a EdgeFacts,
) -> Result<PendingOnline<'a>, AdmitError> {
    let (edge, session) = (EdgeId(facts.edge), SessionNo(pending.no));
    let mut online = PendingOnline::new(presence, facts, session);
    let at = accepted(replica.proposer().submit(Event::EdgeAdmitting { edge, session }).await)?;
    online.announced(Incarnation(at));
    match callbacks::ask(presence, EDGE_ONLINE, facts, callbacks::TIME).await {
        CallbackOutcome::Refused(text) => {
            online.refused();
            let text = pending.protocol.text(format!("edge_online refused: {text}"), &text);
            Err(AdmitError::refused(Code::REFUSED, text))
        }
        CallbackOutcome::Accepted(_) => Ok(online),
        // No answer is not a refusal.
        CallbackOutcome::Unanswered(failure) => {
            warn!(%edge, code = %failure.code, text = failure.text, "no answer to edge_online: the edge is admitted");
            Ok(online)
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
