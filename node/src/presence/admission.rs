//! Admission: from a hello to a row in the tables and a welcome, or to a refusal that says why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::join_all;
use limes_raft::{ProposeError, Replica};
use limes_routing::{EdgeId, Epoch, Event, Incarnation, Position, ServiceId, SessionNo, Verdict};
use limes_wire::callback::{EDGE_OFFLINE, EDGE_ONLINE, EdgeFacts, GET_EDGE_ID};
use limes_wire::frame::{GoAway, Hello, Role, Welcome};
use limes_wire::{Code, limits};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::callbacks::{self, CallbackOutcome};
use super::context::Presence;
use super::tickets;
use crate::router::grace::Absentee;
use crate::router::message::{SessionCommand, SessionHandle};
use crate::router::registry::{SessionEntry, SessionOwner};
use crate::router::service_index::Offer;

/// How long the old home may take to close the session that was taken over, or, if it cannot be heard, the
/// other nodes to lead nobody there any more, before the pending is welcomed all the same (R4). So long it
/// may also take to end what others had forwarded to that session; then they do.
pub(crate) const TAKEOVER_WAIT: Duration = Duration::from_millis(50);

/// How long an admission may take, which may ask two services one after the other ([`callbacks::TIME`] each): less
/// than the pending waits.
const ADMISSION: Duration = limits::HANDSHAKE.saturating_sub(Duration::from_secs(2));

/// How a pending speaks, and so in which words it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerProtocol {
    /// Frames.
    Native,
    /// The reference's packets. A service chooses its id; texts are those that its users know.
    Geminio,
}

impl PeerProtocol {
    fn text(self, native: impl Into<String>, geminio: &str) -> String {
        match self {
            PeerProtocol::Native => native.into(),
            PeerProtocol::Geminio => geminio.to_owned(),
        }
    }
}

/// Somebody who has said hello.
pub(crate) struct PendingAdmission {
    /// Local session number.
    pub(crate) no: u64,
    /// The session's mailbox.
    pub(crate) handle: SessionHandle,
    /// Its address.
    pub(crate) remote: SocketAddr,
    /// How it speaks.
    pub(crate) protocol: PeerProtocol,
    /// What it said.
    pub(crate) hello: Hello,
}

/// Admits a pending; the answer goes to its session as mail.
pub(crate) async fn admit(presence: Arc<Presence>, pending: PendingAdmission) {
    let handle = pending.handle.clone();
    let work = async {
        if presence.consensus.is_draining() {
            return Err(GoAway::new(Code::DRAINING, "this node takes no newcomers"));
        }
        if !presence.consensus.is_ready() {
            return Err(GoAway::new(Code::NO_QUORUM, "this node has lost the cluster; look for another"));
        }
        let replica = presence
            .consensus
            .replica()
            .ok_or_else(|| GoAway::new(Code::NO_QUORUM, "this node is starting"))?;
        let welcome = match pending.hello.role {
            Role::Edge => edge(&presence, replica, &pending).await,
            _ => service(&presence, replica, &pending).await,
        }?;
        if presence.consensus.is_draining() {
            // It began to leave meanwhile, and may have told its sessions before this was one.
            return Err(GoAway::new(Code::DRAINING, "this node takes no newcomers"));
        }
        Ok(welcome)
    };
    let outcome = timeout(ADMISSION, work).await;
    let outcome =
        outcome.unwrap_or_else(|_| Err(GoAway::new(Code::NO_QUORUM, "the cluster did not agree in time")));
    match outcome {
        Ok(welcome) => {
            if !handle.command(SessionCommand::Welcome(Box::new(welcome))) {
                // It hung up while it was being admitted, before it was noted as a session.
                presence.session_closed(pending.no);
            }
        }
        Err(mut goaway) => {
            // Should the event be applied already, or later, its row is taken out again.
            presence.session_closed(pending.no);
            goaway.peers = presence.consensus.other_addresses(pending.hello.role);
            presence.telemetry.metrics.refused();
            handle.command(SessionCommand::Close(goaway));
        }
    }
}

fn refusal(error: ProposeError) -> GoAway {
    GoAway::new(Code::NO_QUORUM, error.to_string())
}

/// The verdict on an "online": its position, which is the session's incarnation.
fn online(verdict: Result<Verdict, ProposeError>) -> Result<Position, GoAway> {
    match verdict.map_err(refusal)? {
        Verdict::Accepted(at) => Ok(at),
        Verdict::Rejected(reason) => Err(GoAway::new(Code::NO_QUORUM, reason.to_string())),
        other => Err(GoAway::new(Code::INTERNAL, format!("an online was answered {other:?}"))),
    }
}

async fn edge(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
) -> Result<Welcome, GoAway> {
    await_providers(presence).await;
    let (edge, at) = loop {
        if !may_come_unasked(presence, &pending.hello) {
            let fresh = presence.consensus.barrier(Instant::now() + limits::HANDSHAKE / 2).await;
            fresh.map_err(|error| GoAway::new(error.code(), error.to_string()))?;
        }
        let known = offered(presence);
        let (edge, at) = take_row(presence, replica, pending).await?;
        // That nobody offers a callback is believed only now (R4): it may have been registered, and
        // acknowledged, at another node, and the tables that have this row have whatever came before it.
        if offered(presence).iter().zip(known).all(|(now, before)| before || !now) {
            break (edge, at);
        }
        give_back(presence, pending.no, edge, Incarnation(at)).await;
    };
    let told = presence.take_confirmations(pending.no);
    if !told.is_empty() {
        // The pending lives in the tables already; what is waited for is the old home's quiet.
        let _ = timeout(TAKEOVER_WAIT, join_all(told)).await;
    }
    let cluster = replica.cluster();
    let key = replica.read(|tables| tables.cluster().and_then(|cluster| cluster.keys.first().cloned()));
    let ticket = key.map_or_else(Bytes::new, |key| tickets::issue(&key, cluster, edge, now_s()));
    Ok(welcome(presence, Role::Edge, edge.0, at, ticket))
}

/// Whether nothing is lost by a row that turns out to have been made without asking: who gets a new id takes
/// nobody's place.
fn may_come_unasked(presence: &Presence, hello: &Hello) -> bool {
    match offered(presence) {
        [true, true, true] => true,
        // Where ids are not allotted, it would be refused.
        [false, false, false] => hello.ticket.is_empty() && presence.config.allot_edge_ids,
        _ => false,
    }
}

/// Waits for services that give ids or are asked about edges, and that were on a node which has just stopped or
/// died: without them the edge might get another id, or come unasked.
async fn await_providers(presence: &Presence) {
    let is_away = || {
        let away = |method: &str| {
            let whom = || Absentee::Service(Offer::Method(method.to_owned()));
            !callbacks::has_provider(presence, method) && presence.grace.wait(whom, Instant::now()).is_some()
        };
        [GET_EDGE_ID, EDGE_ONLINE].into_iter().any(away)
    };
    while is_away() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Which callbacks services offer, as far as this node knows.
fn offered(presence: &Presence) -> [bool; 3] {
    [GET_EDGE_ID, EDGE_ONLINE, EDGE_OFFLINE].map(|method| callbacks::has_provider(presence, method))
}

/// A row in the tables, if the services that offer callbacks let the edge have one.
async fn take_row(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
) -> Result<(EdgeId, Position), GoAway> {
    let hello = &pending.hello;
    let addr = pending.remote.to_string();
    let mut facts = EdgeFacts { edge: 0, meta: hello.meta.clone(), addr: addr.clone() };
    let edge = identify(presence, replica, pending, &facts).await?;
    facts.edge = edge.0;
    let session = SessionNo(pending.no);
    let asked = if callbacks::has_provider(presence, EDGE_ONLINE) {
        Some(ask_online(presence, replica, pending, &facts).await?)
    } else {
        None
    };
    // Whoever may have heard of the edge shall hear its end too.
    let owes_offline = asked.is_some() || callbacks::has_provider(presence, EDGE_OFFLINE);
    let entry =
        SessionEntry { handle: pending.handle.clone(), who: SessionOwner::Edge(edge, None), silent: false };
    presence.sessions.insert(pending.no, entry);
    let event = Event::EdgeOnline {
        edge,
        session,
        meta: hello.meta.clone(),
        addr: addr.into(),
        moving: hello.moving,
        owes_offline,
    };
    let told = replica.proposer().enqueue(event).map_err(refusal)?;
    let at = online(told.await.unwrap_or(Err(ProposeError::Stopped)))?;
    if let Some(asked) = asked {
        // From here on the row owes what was owed for having asked.
        if !asked.settle() {
            return Err(GoAway::new(
                Code::NO_QUORUM,
                "this node was declared down while a service was asked",
            ));
        }
    }
    Ok((edge, at))
}

/// Takes a row out again that was made without asking.
async fn give_back(presence: &Presence, no: u64, edge: EdgeId, incarnation: Incarnation) {
    presence.sessions.remove(no);
    let removal = Event::EdgeOffline { edge, incarnation };
    presence.removals.push(removal.clone());
    // Waits for the removal to commit; otherwise the retry would look like a takeover of this same session.
    presence.removals.wait_decided(&removal).await;
}

/// Which edge it is: a service decides, else a ticket proves it, else a new id is given.
async fn identify(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
    facts: &EdgeFacts,
) -> Result<EdgeId, GoAway> {
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
        return Err(GoAway::new(Code::AUTH, pending.protocol.text(native, "service not online")));
    }
    allot(presence, replica).await
}

/// The id that a service gives; nothing if the last one that gives ids has just gone.
async fn ask_id(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
    facts: &EdgeFacts,
) -> Result<Option<EdgeId>, GoAway> {
    match callbacks::ask(presence, GET_EDGE_ID, facts, callbacks::TIME).await {
        CallbackOutcome::Accepted(body) => match <[u8; 8]>::try_from(&body[..]).map(u64::from_be_bytes) {
            Ok(0) if pending.protocol == PeerProtocol::Geminio => allot(presence, replica).await.map(Some),
            Ok(id) if id != 0 => Ok(Some(EdgeId(id))),
            _ => {
                let text = pending.protocol.text("get_edge_id gave no id", "illegal edgeID");
                Err(GoAway::new(Code::AUTH, text))
            }
        },
        CallbackOutcome::Refused(text) => {
            let text = pending.protocol.text(format!("get_edge_id refused: {text}"), &text);
            Err(GoAway::new(Code::AUTH, text))
        }
        CallbackOutcome::Unanswered(failure) if failure.code == Code::NO_METHOD => Ok(None),
        CallbackOutcome::Unanswered(failure) => {
            Err(GoAway::new(failure.code, format!("get_edge_id did not answer: {}", failure.text)))
        }
    }
}

/// An edge id that nobody has.
async fn allot(presence: &Arc<Presence>, replica: &Replica) -> Result<EdgeId, GoAway> {
    let reserve = |count| Event::EdgeIdsReserved { count };
    let id = presence.edge_ids.next(replica.proposer(), reserve).await;
    id.map(EdgeId).map_err(refusal)
}

/// Asks whether the edge may come.
async fn ask_online<'a>(
    presence: &'a Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
    facts: &'a EdgeFacts,
) -> Result<Asked<'a>, GoAway> {
    let (edge, session) = (EdgeId(facts.edge), SessionNo(pending.no));
    let epoch = presence.consensus.epoch();
    let mut asked = Asked { presence, facts, session, epoch, heard: None, over: false };
    let at = online(replica.proposer().submit(Event::EdgeAdmitting { edge, session }).await)?;
    asked.heard = Some(Incarnation(at));
    match callbacks::ask(presence, EDGE_ONLINE, facts, callbacks::TIME).await {
        CallbackOutcome::Refused(text) => {
            asked.heard = None;
            let text = pending.protocol.text(format!("edge_online refused: {text}"), &text);
            Err(GoAway::new(Code::REFUSED, text))
        }
        CallbackOutcome::Accepted(_) => Ok(asked),
        // Unanswered is not refused.
        CallbackOutcome::Unanswered(failure) => {
            warn!(%edge, code = %failure.code, text = failure.text, "edge_online was not answered: the edge is let in");
            Ok(asked)
        }
    }
}

/// An edge that services are being asked about. If nothing comes of it (a refusal, or the admission is
/// given up), its row is taken out again, and whoever may have heard of the edge hears its end.
struct Asked<'a> {
    presence: &'a Arc<Presence>,
    facts: &'a EdgeFacts,
    session: SessionNo,
    /// The node's life in which it is asked: when that is over, services are told that the edge has gone.
    epoch: Option<Epoch>,
    /// Under which incarnation a service may have heard of it.
    heard: Option<Incarnation>,
    over: bool,
}

impl Asked<'_> {
    /// The edge has its row; false: services may have been told of its end meanwhile.
    fn settle(mut self) -> bool {
        self.over = true;
        self.presence.consensus.epoch() == self.epoch
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let edge = EdgeId(self.facts.edge);
        let removals = &self.presence.removals;
        if let Some(incarnation) = self.heard {
            let (meta, addr) = (self.facts.meta.clone(), self.facts.addr.as_str().into());
            removals.push(Event::CallbackOwed { edge, incarnation, meta, addr });
        }
        removals.push(Event::EdgeRefused { edge, session: self.session });
    }
}

async fn service(
    presence: &Arc<Presence>,
    replica: &Replica,
    pending: &PendingAdmission,
) -> Result<Welcome, GoAway> {
    let hello = &pending.hello;
    let id = match hello.claim.filter(|_| pending.protocol == PeerProtocol::Geminio) {
        // Granted unseen, on every node: its clients take the id of their first connection to all.
        Some(wanted) => wanted,
        None => {
            let reserve = |count| Event::ServiceIdsReserved { count };
            presence.service_ids.next(replica.proposer(), reserve).await.map_err(refusal)?
        }
    };
    let service = ServiceId(id);
    let entry = SessionEntry {
        handle: pending.handle.clone(),
        who: SessionOwner::Service(service, false),
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
    let at = online(replica.proposer().submit(event).await)?;
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

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
