//! Admission: from a hello to a row in the tables and a welcome, or to a refusal that says why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use limes_raft::{ProposeError, Replica};
use limes_routing::{EdgeId, Event, Position, ServiceId, SessionNo, Verdict};
use limes_wire::callback::{EDGE_ONLINE, EdgeFacts, GET_EDGE_ID};
use limes_wire::frame::{GoAway, Hello, Role, Welcome};
use limes_wire::{Code, limits};
use tokio::time::timeout;

use super::callback::{self, Said};
use super::ticket;
use crate::directory::{Entry, Who};
use crate::mail::{Mail, Outbox};
use crate::node::Node;

/// How long the old home may take to close the session that was taken over, before the newcomer is
/// welcomed all the same (R4).
const NOTICE: Duration = Duration::from_millis(50);

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
        match newcomer.hello.role {
            Role::Edge => edge(&node, replica, &newcomer).await,
            _ => service(&node, replica, &newcomer).await,
        }
    };
    let outcome = timeout(limits::HANDSHAKE / 2, work).await;
    let outcome =
        outcome.unwrap_or_else(|_| Err(GoAway::new(Code::NO_QUORUM, "the cluster did not agree in time")));
    match outcome {
        Ok(welcome) => {
            outbox.push_always(Mail::Welcome(Box::new(welcome)));
        }
        Err(mut goaway) => {
            // Should the event be applied already, or later, its row is taken out again.
            super::session_closed(&node, newcomer.no);
            goaway.peers = node.elsewhere(newcomer.hello.role);
            node.metrics.refused(goaway.code);
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
    let hello = &newcomer.hello;
    let addr = newcomer.remote.to_string();
    let mut facts = EdgeFacts { edge: 0, meta: hello.meta.clone(), addr: addr.clone() };
    let edge = identify(node, replica, newcomer, &facts).await?;
    facts.edge = edge.0;
    let session = SessionNo(newcomer.no);
    let owes_offline = if callback::has_provider(node, EDGE_ONLINE) {
        ask_online(node, replica, newcomer, &facts).await?
    } else {
        callback::has_provider(node, limes_wire::callback::EDGE_OFFLINE)
    };
    let entry = Entry { outbox: newcomer.outbox.clone(), who: Who::Edge(edge, None), silent: false };
    node.sessions.insert(newcomer.no, entry);
    let event = Event::EdgeOnline {
        edge,
        session,
        meta: hello.meta.clone(),
        addr: addr.into(),
        moving: hello.moving,
        owes_offline,
    };
    let at = online(replica.proposer().submit(event).await)?;
    if let Some(told) = node.presence.take_notice(newcomer.no) {
        // The newcomer lives in the tables already; what is waited for is the old home's quiet.
        let _ = timeout(NOTICE, told).await;
    }
    let cluster = replica.cluster();
    let key = replica.read(|tables| tables.cluster().and_then(|cluster| cluster.keys.first().cloned()));
    let ticket = key.map_or_else(Bytes::new, |key| ticket::issue(&key, cluster, edge, now_s()));
    Ok(welcome(node, Role::Edge, edge.0, at, ticket))
}

/// Which edge it is: a service decides, else a ticket proves it, else a new id is given.
async fn identify(
    node: &Arc<Node>,
    replica: &Replica,
    newcomer: &Newcomer,
    facts: &EdgeFacts,
) -> Result<EdgeId, GoAway> {
    if callback::has_provider(node, GET_EDGE_ID) {
        return match callback::ask(node, GET_EDGE_ID, facts).await {
            Said::Yes(body) => match <[u8; 8]>::try_from(&body[..]).map(u64::from_be_bytes) {
                Ok(0) if newcomer.dialect == Dialect::Geminio => allot(node, replica).await,
                Ok(id) if id != 0 => Ok(EdgeId(id)),
                _ => {
                    let text = newcomer.dialect.text("get_edge_id gave no id", "illegal edgeID");
                    Err(GoAway::new(Code::AUTH, text))
                }
            },
            Said::No(text) => {
                let text = newcomer.dialect.text(format!("get_edge_id refused: {text}"), &text);
                Err(GoAway::new(Code::AUTH, text))
            }
            Said::Nothing(failure) => {
                Err(GoAway::new(failure.code, format!("get_edge_id did not answer: {}", failure.text)))
            }
        };
    }
    let keys = replica.read(|tables| tables.cluster().map(|c| c.keys.clone()).unwrap_or_default());
    let keys = keys.iter().map(|key| &key[..]);
    if let Some(edge) = ticket::verify(keys, replica.cluster(), &newcomer.hello.ticket, now_s()) {
        return Ok(edge);
    }
    if !node.config.edgebound.edgeid_alloc_when_no_idservice_on {
        let native = "no service gives edge ids, and allotting them is off";
        return Err(GoAway::new(Code::AUTH, newcomer.dialect.text(native, "service not online")));
    }
    allot(node, replica).await
}

/// An edge id that nobody has.
async fn allot(node: &Arc<Node>, replica: &Replica) -> Result<EdgeId, GoAway> {
    let reserve = |count| Event::EdgeIdsReserved { count };
    let id = node.presence.edge_ids.next(replica.proposer(), reserve).await;
    id.map(EdgeId).map_err(refusal)
}

/// Asks whether the edge may come; gives whether its end is to be told.
async fn ask_online(
    node: &Arc<Node>,
    replica: &Replica,
    newcomer: &Newcomer,
    facts: &EdgeFacts,
) -> Result<bool, GoAway> {
    let (edge, session) = (EdgeId(facts.edge), SessionNo(newcomer.no));
    online(replica.proposer().submit(Event::EdgeAdmitting { edge, session }).await)?;
    match callback::ask(node, EDGE_ONLINE, facts).await {
        Said::No(text) => {
            let _ = replica.proposer().submit(Event::EdgeRefused { edge, session }).await;
            let text = newcomer.dialect.text(format!("edge_online refused: {text}"), &text);
            Err(GoAway::new(Code::REFUSED, text))
        }
        // Unanswered is not refused, but whoever may have heard of it shall hear the end too.
        Said::Yes(_) | Said::Nothing(_) => Ok(true),
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
    let entry = Entry { outbox: newcomer.outbox.clone(), who: Who::Service(service, false), silent: false };
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
