//! Admission: from a hello to a row in the tables and a welcome, or to a refusal that says why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::join_all;
use limes_raft::{ProposeError, Replica};
use limes_routing::{EdgeId, Event, Incarnation, Position, ServiceId, SessionNo, Verdict};
use limes_wire::callback::{EDGE_OFFLINE, EDGE_ONLINE, EdgeFacts, GET_EDGE_ID};
use limes_wire::frame::{GoAway, Hello, Role, Welcome};
use limes_wire::{Code, limits};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::callbacks::{self, Said};
use super::tickets;
use crate::node::Node;
use crate::router::grace::Absentee;
use crate::router::message::{Mail, Outbox};
use crate::router::registry::{SessionEntry, SessionOwner};
use crate::router::service_index::Offer;

/// How long the old home may take to close the session that was taken over, or, if it cannot be heard, the
/// other nodes to lead nobody there any more, before the newcomer is welcomed all the same (R4). So long it
/// may also take to end what others had forwarded to that session; then they do.
pub(crate) const NOTICE: Duration = Duration::from_millis(50);

/// How long an admission may take, which may ask two services one after the other ([`callbacks::TIME`] each): less
/// than the newcomer waits.
const ADMISSION: Duration = limits::HANDSHAKE.saturating_sub(Duration::from_secs(2));

/// How a newcomer speaks, and so in which words it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Frames.
    Native,
    /// The reference's packets. A service chooses its id; texts are those that its users know.
    Geminio,
}

impl Dialect {
    fn text(self, native: impl Into<String>, geminio: &str) -> String {
        match self {
            Dialect::Native => native.into(),
            Dialect::Geminio => geminio.to_owned(),
        }
    }
}

/// Somebody who has said hello.
pub(crate) struct Newcomer {
    /// Local session number.
    pub(crate) no: u64,
    /// The session's mailbox.
    pub(crate) outbox: Outbox,
    /// Its address.
    pub(crate) remote: SocketAddr,
    /// How it speaks.
    pub(crate) dialect: Dialect,
    /// What it said.
    pub(crate) hello: Hello,
}

/// Admits a newcomer; the answer goes to its session as mail.
pub(crate) async fn admit(node: Arc<Node>, newcomer: Newcomer) {
    let outbox = newcomer.outbox.clone();
    let work = async {
        if node.is_draining() {
            return Err(GoAway::new(Code::DRAINING, "this node takes no newcomers"));
        }
        if !node.is_ready() {
            return Err(GoAway::new(Code::NO_QUORUM, "this node has lost the cluster; look for another"));
        }
        let replica = node.replica().ok_or_else(|| GoAway::new(Code::NO_QUORUM, "this node is starting"))?;
        let welcome = match newcomer.hello.role {
            Role::Edge => edge(&node, replica, &newcomer).await,
            _ => service(&node, replica, &newcomer).await,
        }?;
        if node.is_draining() {
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
            if !outbox.push_always(Mail::Welcome(Box::new(welcome))) {
                // It hung up while it was being admitted, before it was noted as a session.
                super::session_closed(&node, newcomer.no);
            }
        }
        Err(mut goaway) => {
            // Should the event be applied already, or later, its row is taken out again.
            super::session_closed(&node, newcomer.no);
            goaway.peers = node.elsewhere(newcomer.hello.role);
            node.metrics.refused();
            outbox.push_always(Mail::Close(goaway));
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

async fn edge(node: &Arc<Node>, replica: &Replica, newcomer: &Newcomer) -> Result<Welcome, GoAway> {
    await_providers(node).await;
    let (edge, at) = loop {
        if !may_come_unasked(node, &newcomer.hello) {
            let fresh = node.barrier(Instant::now() + limits::HANDSHAKE / 2).await;
            fresh.map_err(|failure| GoAway::new(failure.code, failure.text))?;
        }
        let known = offered(node);
        let (edge, at) = take_row(node, replica, newcomer).await?;
        // That nobody offers a callback is believed only now (R4): it may have been registered, and
        // acknowledged, at another node, and the tables that have this row have whatever came before it.
        if offered(node).iter().zip(known).all(|(now, before)| before || !now) {
            break (edge, at);
        }
        give_back(node, newcomer.no, edge, Incarnation(at)).await;
    };
    let told = node.presence.take_notices(newcomer.no);
    if !told.is_empty() {
        // The newcomer lives in the tables already; what is waited for is the old home's quiet.
        let _ = timeout(NOTICE, join_all(told)).await;
    }
    let cluster = replica.cluster();
    let key = replica.read(|tables| tables.cluster().and_then(|cluster| cluster.keys.first().cloned()));
    let ticket = key.map_or_else(Bytes::new, |key| tickets::issue(&key, cluster, edge, now_s()));
    Ok(welcome(node, Role::Edge, edge.0, at, ticket))
}

/// Whether nothing is lost by a row that turns out to have been made without asking: who gets a new id takes
/// nobody's place.
fn may_come_unasked(node: &Node, hello: &Hello) -> bool {
    match offered(node) {
        [true, true, true] => true,
        // Where ids are not allotted, it would be refused.
        [false, false, false] => {
            hello.ticket.is_empty() && node.config.edgebound.edgeid_alloc_when_no_idservice_on
        }
        _ => false,
    }
}

/// Waits for services that give ids or are asked about edges, and that were on a node which has just stopped or
/// died: without them the edge might get another id, or come unasked.
async fn await_providers(node: &Node) {
    let is_away = || {
        let away = |method: &str| {
            let whom = || Absentee::Service(Offer::Method(method.to_owned()));
            !callbacks::has_provider(node, method) && node.awaited.wait(whom, Instant::now()).is_some()
        };
        [GET_EDGE_ID, EDGE_ONLINE].into_iter().any(away)
    };
    while is_away() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Which callbacks services offer, as far as this node knows.
fn offered(node: &Node) -> [bool; 3] {
    [GET_EDGE_ID, EDGE_ONLINE, EDGE_OFFLINE].map(|method| callbacks::has_provider(node, method))
}

/// A row in the tables, if the services that offer callbacks let the edge have one.
async fn take_row(
    node: &Arc<Node>,
    replica: &Replica,
    newcomer: &Newcomer,
) -> Result<(EdgeId, Position), GoAway> {
    let hello = &newcomer.hello;
    let addr = newcomer.remote.to_string();
    let mut facts = EdgeFacts { edge: 0, meta: hello.meta.clone(), addr: addr.clone() };
    let edge = identify(node, replica, newcomer, &facts).await?;
    facts.edge = edge.0;
    let session = SessionNo(newcomer.no);
    let asked = if callbacks::has_provider(node, EDGE_ONLINE) {
        Some(ask_online(node, replica, newcomer, &facts).await?)
    } else {
        None
    };
    // Whoever may have heard of the edge shall hear its end too.
    let owes_offline = asked.is_some() || callbacks::has_provider(node, EDGE_OFFLINE);
    let entry =
        SessionEntry { outbox: newcomer.outbox.clone(), who: SessionOwner::Edge(edge, None), silent: false };
    node.sessions.insert(newcomer.no, entry);
    let event = Event::EdgeOnline {
        edge,
        session,
        meta: hello.meta.clone(),
        addr: addr.into(),
        moving: hello.moving,
        owes_offline,
    };
    let told = replica.proposer().begin(event).map_err(refusal)?;
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
async fn give_back(node: &Node, no: u64, edge: EdgeId, incarnation: Incarnation) {
    node.sessions.remove(no);
    let removal = Event::EdgeOffline { edge, incarnation };
    node.presence.removals.push(removal.clone());
    // Else the next row would take this one's place, and close the session that both are of.
    while node.presence.removals.has(&removal) {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Which edge it is: a service decides, else a ticket proves it, else a new id is given.
async fn identify(
    node: &Arc<Node>,
    replica: &Replica,
    newcomer: &Newcomer,
    facts: &EdgeFacts,
) -> Result<EdgeId, GoAway> {
    if callbacks::has_provider(node, GET_EDGE_ID)
        && let Some(edge) = ask_id(node, replica, newcomer, facts).await?
    {
        return Ok(edge);
    }
    let keys = replica.read(|tables| tables.cluster().map(|c| c.keys.clone()).unwrap_or_default());
    let keys = keys.iter().map(|key| &key[..]);
    if let Some(edge) = tickets::verify(keys, replica.cluster(), &newcomer.hello.ticket, now_s()) {
        return Ok(edge);
    }
    if !node.config.edgebound.edgeid_alloc_when_no_idservice_on {
        let native = "no service gives edge ids, and allotting them is off";
        return Err(GoAway::new(Code::AUTH, newcomer.dialect.text(native, "service not online")));
    }
    allot(node, replica).await
}

/// The id that a service gives; nothing if the last one that gives ids has just gone.
async fn ask_id(
    node: &Arc<Node>,
    replica: &Replica,
    newcomer: &Newcomer,
    facts: &EdgeFacts,
) -> Result<Option<EdgeId>, GoAway> {
    match callbacks::ask(node, GET_EDGE_ID, facts, callbacks::TIME).await {
        Said::Yes(body) => match <[u8; 8]>::try_from(&body[..]).map(u64::from_be_bytes) {
            Ok(0) if newcomer.dialect == Dialect::Geminio => allot(node, replica).await.map(Some),
            Ok(id) if id != 0 => Ok(Some(EdgeId(id))),
            _ => {
                let text = newcomer.dialect.text("get_edge_id gave no id", "illegal edgeID");
                Err(GoAway::new(Code::AUTH, text))
            }
        },
        Said::No(text) => {
            let text = newcomer.dialect.text(format!("get_edge_id refused: {text}"), &text);
            Err(GoAway::new(Code::AUTH, text))
        }
        Said::Nothing(failure) if failure.code == Code::NO_METHOD => Ok(None),
        Said::Nothing(failure) => {
            Err(GoAway::new(failure.code, format!("get_edge_id did not answer: {}", failure.text)))
        }
    }
}

/// An edge id that nobody has.
async fn allot(node: &Arc<Node>, replica: &Replica) -> Result<EdgeId, GoAway> {
    let reserve = |count| Event::EdgeIdsReserved { count };
    let id = node.presence.edge_ids.next(replica.proposer(), reserve).await;
    id.map(EdgeId).map_err(refusal)
}

/// Asks whether the edge may come.
async fn ask_online<'a>(
    node: &'a Arc<Node>,
    replica: &Replica,
    newcomer: &Newcomer,
    facts: &'a EdgeFacts,
) -> Result<Asked<'a>, GoAway> {
    let (edge, session) = (EdgeId(facts.edge), SessionNo(newcomer.no));
    let epoch = node.presence.epoch.load(Ordering::Acquire);
    let mut asked = Asked { node, facts, session, epoch, heard: None, over: false };
    let at = online(replica.proposer().submit(Event::EdgeAdmitting { edge, session }).await)?;
    asked.heard = Some(Incarnation(at));
    match callbacks::ask(node, EDGE_ONLINE, facts, callbacks::TIME).await {
        Said::No(text) => {
            asked.heard = None;
            let text = newcomer.dialect.text(format!("edge_online refused: {text}"), &text);
            Err(GoAway::new(Code::REFUSED, text))
        }
        Said::Yes(_) => Ok(asked),
        // Unanswered is not refused.
        Said::Nothing(failure) => {
            warn!(%edge, code = %failure.code, text = failure.text, "edge_online was not answered: the edge is let in");
            Ok(asked)
        }
    }
}

/// An edge that services are being asked about. If nothing comes of it (a refusal, or the admission is
/// given up), its row is taken out again, and whoever may have heard of the edge hears its end.
struct Asked<'a> {
    node: &'a Arc<Node>,
    facts: &'a EdgeFacts,
    session: SessionNo,
    /// The node's life in which it is asked: when that is over, services are told that the edge has gone.
    epoch: u64,
    /// Under which incarnation a service may have heard of it.
    heard: Option<Incarnation>,
    over: bool,
}

impl Asked<'_> {
    /// The edge has its row; false: services may have been told of its end meanwhile.
    fn settle(mut self) -> bool {
        self.over = true;
        self.node.presence.epoch.load(Ordering::Acquire) == self.epoch
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let edge = EdgeId(self.facts.edge);
        let removals = &self.node.presence.removals;
        if let Some(incarnation) = self.heard {
            let (meta, addr) = (self.facts.meta.clone(), self.facts.addr.as_str().into());
            removals.push(Event::CallbackOwed { edge, incarnation, meta, addr });
        }
        removals.push(Event::EdgeRefused { edge, session: self.session });
    }
}

async fn service(node: &Arc<Node>, replica: &Replica, newcomer: &Newcomer) -> Result<Welcome, GoAway> {
    let hello = &newcomer.hello;
    let id = match hello.claim.filter(|_| newcomer.dialect == Dialect::Geminio) {
        // Granted unseen, on every node: its clients take the id of their first connection to all.
        Some(wanted) => wanted,
        None => {
            let reserve = |count| Event::ServiceIdsReserved { count };
            node.presence.service_ids.next(replica.proposer(), reserve).await.map_err(refusal)?
        }
    };
    let service = ServiceId(id);
    let entry = SessionEntry {
        outbox: newcomer.outbox.clone(),
        who: SessionOwner::Service(service, false),
        silent: false,
    };
    node.sessions.insert(newcomer.no, entry);
    let event = Event::ServiceOnline {
        service,
        session: SessionNo(newcomer.no),
        name: hello.name.as_str().into(),
        instance: hello.instance,
        meta: hello.meta.clone(),
        addr: newcomer.remote.to_string().into(),
    };
    let at = online(replica.proposer().submit(event).await)?;
    Ok(welcome(node, Role::Service, id, at, Bytes::new()))
}

fn welcome(node: &Node, role: Role, id: u64, at: Position, ticket: Bytes) -> Welcome {
    Welcome {
        id,
        incarnation: (at.revision.0, at.ordinal),
        cluster: node.cluster(),
        node: node.name().to_owned(),
        peers: node.elsewhere(role),
        ticket,
        ..Welcome::default()
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}
