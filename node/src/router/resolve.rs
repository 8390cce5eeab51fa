//! Finding the way of a call or message: from the session that asks to the mailbox that delivers.
//!
//! A known route costs a lookup and no wait. A miss is believed only after a read barrier that began
//! after it (R4): that, and the one retry after a redirect, happen in a task of their own, in which
//! messages keep their order. A receiver that the tables know and that cannot be reached now is waited
//! for a little, and never denied; so is one that has just been sent away and is expected back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_routing::{EdgeId, NodeId, Revision};
use limes_wire::Code;

use crate::mesh::Reachability;
use crate::node::Node;
use crate::router::edge_routes::EdgeLocation;
use crate::router::grace::{Absentee, RETURN, Wait};
use crate::router::message::{
    DeliveryError, Failure, Key, Kind, Mail, Origin, Outbox, Request, Target, try_deliver,
};
use crate::router::ordering::Lane;
use crate::router::registry::SessionOwner;
use crate::router::service_index::{ANY_TOPIC, Offer};
use crate::tasks;

/// The most that a request waits for a barrier or a revision, whatever its deadline, unless a leader
/// may take longer to be found.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Heartbeats that a request waits for the link to its receiver's node: a node that has just started
/// dials within two.
const LINK_WAIT: u32 = 10;

/// What is said of a receiver that the tables know and that no way leads to.
pub(crate) const UNREACHABLE: &str = "the receiver is known but cannot be reached now; try again";

/// What came of looking for the way with what this node knows.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// There it goes.
    Routed(Route),
    /// The tables know a receiver, but no link leads there, or its connection has just ended.
    Unreachable,
    /// The tables know nobody, but whoever has just left is expected back.
    InGrace(Wait),
    /// The tables know no receiver.
    Absent,
}

/// Where a request goes next.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The node of the receiver.
    pub(crate) node: NodeId,
    /// The mailbox of the receiver's session, or of the link to its node.
    pub(crate) outbox: Outbox,
    /// The receiver with its generation.
    pub(crate) target: Target,
}

/// Sends a request on its way and gives the mailbox it is in, for a later cancel. `None`: it has
/// been answered, or is being looked for; then [`Mail::Routed`] follows.
pub(crate) fn dispatch(node: &Arc<Node>, request: Box<Request>) -> Option<Outbox> {
    let mut request = node.lanes.behind(request)?;
    let Resolution::Routed(way) = find(node, &request) else {
        resolve_again(node, request, Revision(0));
        return None;
    };
    request.target = way.target;
    match try_deliver(&way.outbox, request) {
        Ok(()) => Some(way.outbox),
        Err(DeliveryError::Busy(request)) => {
            request.fail(busy());
            None
        }
        Err(DeliveryError::Gone(request)) => {
            resolve_again(node, request, Revision(0));
            None
        }
    }
}

fn busy() -> Failure {
    Failure::not_run(Code::BUSY, "the receiver's queue is full; try again later")
}

/// The way of a request by what this node knows now.
pub(crate) fn find(node: &Node, request: &Request) -> Resolution {
    match request.target {
        Target::Edge(edge, _) => find_edge(node, edge, request.tried),
        Target::Service(..) => {
            let services = node.services.load();
            let list = match request.kind {
                Kind::Call => services.method(&request.name),
                Kind::Message => services.topic(&request.name),
            };
            match node.pick(list, request.key, request.tried) {
                Resolution::Absent => missed_service(node, request.kind, &request.name),
                found => found,
            }
        }
    }
}

/// Nobody offers this now.
fn missed_service(node: &Node, kind: Kind, name: &str) -> Resolution {
    let missed = |offer: Offer| node.missed(|| Absentee::Service(offer));
    match kind {
        Kind::Call => missed(Offer::Method(name.to_owned())),
        Kind::Message => match missed(Offer::Topic(name.to_owned())) {
            Resolution::Absent => missed(Offer::Topic(ANY_TOPIC.to_owned())),
            found => found,
        },
    }
}

/// The way to an edge by what this node knows now.
///
/// `tried`: its node has said that this session is over, which is still on its way into the tables.
pub(crate) fn find_edge(node: &Node, edge: EdgeId, tried: Option<Target>) -> Resolution {
    let is_tried = |incarnation| tried == Some(Target::Edge(edge, incarnation));
    match node.directory.get(edge) {
        Some(EdgeLocation::Remote(home)) if is_tried(home.incarnation) => Resolution::Unreachable,
        // Its connection has ended, and that is on its way into the tables.
        Some(EdgeLocation::Local { incarnation, outbox }) if outbox.is_closed() || is_tried(incarnation) => {
            Resolution::Unreachable
        }
        Some(EdgeLocation::Local { incarnation, outbox }) => {
            Resolution::Routed(Route { node: node.id(), outbox, target: Target::Edge(edge, incarnation) })
        }
        Some(EdgeLocation::Remote(home)) => match node.peers.reach(home.node, home.epoch) {
            Reachability::Linked(outbox) => Resolution::Routed(Route {
                node: home.node,
                outbox,
                target: Target::Edge(edge, home.incarnation),
            }),
            Reachability::Unlinked => Resolution::Unreachable,
            // Hidden with its node (R5).
            Reachability::Down => node.missed(|| Absentee::Node(home.node)),
        },
        // A fresh look at the tables will say.
        Some(EdgeLocation::Superseded(_)) => Resolution::Absent,
        None => node.missed(|| Absentee::Edge(edge)),
    }
}

/// How long somebody looks for a receiver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From when on.
    began: Instant,
    /// For a link to come up.
    link: Instant,
    /// For anything.
    deadline: Instant,
    /// As [`Request::patient`].
    patient: bool,
}

impl Patience {
    /// Until a deadline, from now on.
    pub(crate) fn until(node: &Node, deadline: Instant, patient: bool) -> Self {
        let began = Instant::now();
        Patience { began, link: began + node.config.cluster.heartbeat * LINK_WAIT, deadline, patient }
    }
}

/// PeekBackoff until there is a way or nobody to look for or to wait for; then there is one last look.
pub(crate) async fn resolve_reachable(
    node: &Node,
    patience: Patience,
    look: impl Fn() -> Resolution,
) -> Resolution {
    let mut links = node.peers.linked();
    loop {
        let found = look();
        let until = match &found {
            Resolution::Unreachable if patience.patient => patience.link.max(patience.began + RETURN),
            Resolution::Unreachable => patience.link,
            Resolution::InGrace(wait) if wait.planned || patience.patient => wait.until,
            Resolution::InGrace(_) => return Resolution::Absent,
            Resolution::Routed(_) | Resolution::Absent => return found,
        };
        let until = until.min(patience.deadline);
        if Instant::now() >= until {
            return if matches!(found, Resolution::InGrace(_)) { Resolution::Absent } else { found };
        }
        // SessionOwner leaves the tables, or comes back, does so without a link changing: hence the pause.
        let pause = until.min(Instant::now() + node.config.cluster.heartbeat);
        let _ = tokio::time::timeout_at(pause.into(), links.changed()).await;
    }
}

/// The session that another node asks for, if it lives here under this generation.
pub(crate) fn find_here(node: &Node, target: Target) -> Option<Outbox> {
    match target {
        Target::Edge(edge, incarnation) => match node.directory.get(edge) {
            Some(EdgeLocation::Local { incarnation: held, outbox }) if held == incarnation => Some(outbox),
            _ => None,
        },
        Target::Service(service, session, epoch) if node.presence.is_own_epoch(epoch) => {
            let entry = node.sessions.get(session.0)?;
            matches!(entry.who, SessionOwner::Service(held, _) if held == service).then_some(entry.outbox)
        }
        Target::Service(..) => None,
    }
}

/// PeekBackoff for the way once more after the tables are known to be new enough: at least `revision`,
/// or a fresh barrier if that is 0. Messages keep their order; see [`crate::router::ordering`].
pub(crate) fn resolve_again(node: &Arc<Node>, request: Box<Request>, revision: Revision) {
    let node = node.clone();
    match Lane::of(&request) {
        None => {
            tasks::spawn(tasks::Kind::Route, async move { look(&node, vec![*request], revision).await });
        }
        Some(lane) => {
            if node.lanes.join(lane.clone(), request, revision) {
                tasks::spawn(tasks::Kind::Route, walk(node, lane));
            }
        }
    }
}

/// Empties a lane.
async fn walk(node: Arc<Node>, lane: Lane) {
    loop {
        let (requests, revision) = node.lanes.next(&lane);
        if requests.is_empty() {
            return;
        }
        look(&node, requests, revision).await;
    }
}

/// Waits until the tables are new enough, then sends these on their way one after the other.
async fn look(node: &Arc<Node>, requests: Vec<Request>, revision: Revision) {
    // A barrier that waits for the one before it knows after twice that time whether there is a quorum.
    let patience = LOOK_MAX.max(node.config.cluster.timing().no_quorum_after() * 3);
    let most = Instant::now() + patience;
    let deadline = requests.iter().map(|request| request.deadline).max().map_or(most, |last| last.min(most));
    let fresh = if revision == Revision(0) {
        node.barrier(deadline).await
    } else {
        node.wait_applied(revision, deadline).await
    };
    if let Err(failure) = fresh {
        for request in requests {
            match find(node, &request) {
                // A way that is known needs no quorum (R10).
                Resolution::Routed(way) => send(request, way),
                _ => request.fail(failure.clone()),
            }
        }
        return;
    }
    // All wait for one link together.
    let patience = Patience::until(node, most, false);
    let mut once_more = false;
    for request in requests {
        once_more = match once_more {
            // It must not overtake the one that looks once more.
            true => again(node, request),
            false => go(node, request, revision, patience).await,
        };
    }
}

fn again(node: &Arc<Node>, request: Request) -> bool {
    resolve_again(node, Box::new(request), Revision(0));
    true
}

/// Sends one on its way; true: it has to look once more. Of the patience its part for links is meant.
async fn go(node: &Arc<Node>, request: Request, revision: Revision, patience: Patience) -> bool {
    let patience = Patience { deadline: request.deadline, patient: request.patient, ..patience };
    match resolve_reachable(node, patience, || find(node, &request)).await {
        Resolution::Routed(way) => send(request, way),
        Resolution::Unreachable => request.fail(unreachable()),
        // SessionOwner redirected may itself have missed a newer session: that miss needs a barrier too.
        Resolution::Absent if revision != Revision(0) => return again(node, request),
        Resolution::InGrace(_) | Resolution::Absent => request.fail(nobody(&request)),
    }
    false
}

/// Hands over what has had to look, and tells its origin where it is.
fn send(mut request: Request, way: Route) {
    request.target = way.target;
    let (origin, id) = (request.origin.clone(), request.id);
    match try_deliver(&way.outbox, Box::new(request)) {
        Ok(()) => {
            if !origin.routed(id, &way.outbox) {
                // Whoever asked is gone.
                way.outbox.push_always(Mail::Cancel(Key { origin: origin.no(), id }));
            }
        }
        Err(DeliveryError::Busy(request)) => request.fail(busy()),
        Err(DeliveryError::Gone(request)) => {
            request.fail(Failure::not_run(Code::GONE, "the receiver has just gone; try again"));
        }
    }
}

fn unreachable() -> Failure {
    Failure::not_run(Code::GONE, UNREACHABLE)
}

/// Why there is no way, in the words of the thing that was asked for.
fn nobody(request: &Request) -> Failure {
    match (request.target, request.kind) {
        (Target::Edge(edge, _), _) => {
            Failure::not_run(Code::NO_EDGE, format!("no edge {} is connected", edge.0))
        }
        (_, Kind::Call) => {
            Failure::not_run(Code::NO_METHOD, format!("no service offers method {:?}", &*request.name))
        }
        (_, Kind::Message) => {
            Failure::not_run(Code::NO_SERVICE, format!("no service takes topic {:?}", &*request.name))
        }
    }
}

/// Deals with mail that a closed session or link never read: requests look for another way once,
/// the rest needs nothing.
pub(crate) fn return_undelivered(node: &Arc<Node>, unread: impl IntoIterator<Item = Mail>) {
    let unread: Vec<Mail> = unread.into_iter().collect();
    let cancelled = |mail: &Mail| if let Mail::Cancel(key) = mail { Some(*key) } else { None };
    let cancelled: HashSet<Key> = unread.iter().filter_map(cancelled).collect();
    for mail in unread {
        match mail {
            Mail::Request(request) if cancelled.contains(&request.key()) => {
                request.unwanted();
            }
            Mail::Request(request) if matches!(request.origin, Origin::Link(..)) => {
                let failure = moved(node, request.target);
                request.fail(failure);
            }
            Mail::Request(mut request) if request.tried.is_none() => {
                request.tried = Some(request.target);
                resolve_again(node, request, Revision(0));
            }
            Mail::Request(request) => {
                request.fail(Failure::not_run(Code::GONE, "the receiver has just gone; try again"));
            }
            Mail::Open(reply) => {
                let _ = reply.send(Err(Code::GONE));
            }
            _ => {}
        }
    }
}

/// The revision at which this node knows better where the receiver is: at least what it has applied, and
/// of an edge that has moved at least its move, which it may still have to apply.
pub(crate) fn newer_revision(node: &Node, target: Target) -> Revision {
    let applied = node.applied();
    match target {
        Target::Edge(edge, _) => match node.directory.get(edge) {
            Some(EdgeLocation::Superseded(to)) => applied.max(to.0.revision),
            _ => applied,
        },
        Target::Service(..) => applied,
    }
}

/// The failure for a request that reached a node which does not hold the session: it names the
/// revision at which that node knows better.
pub(crate) fn moved(node: &Node, target: Target) -> Failure {
    let revision = newer_revision(node, target);
    Failure { revision: revision.0, ..Failure::not_run(Code::MOVED, "the session is elsewhere") }
}
