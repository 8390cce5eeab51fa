//! Resolution: from the recipient of a call or message to the session or link that delivers it.
//!
//! A known route costs one lookup and no wait. A recipient counts as absent only after a read barrier that began
//! after the miss (R4). The barrier, and the one retry after a redirect, run in a task of their own, in which
//! messages keep their order. A request waits briefly for a receiver that is in the tables but cannot be reached,
//! or that is expected to reconnect.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_routing::{EdgeId, Revision};
use limes_wire::Code;

use super::context::Router;
use super::edge_routes::EdgeLocation;
use super::grace::{Absentee, RETURN};
use super::message::{
    Address, Delivery, DeliveryError, Destination, Failure, Freshness, Key, Kind, Origin, Receiver,
    Recipient, Request,
};
use super::ordering::OrderKey;
use super::peers::Reachability;
use super::registry::SessionOwner;
use super::route::{Resolution, Route};
use super::select::ServiceTopics;
use super::service_index::{ANY_TOPIC, Offer};
use super::topic_sink::{TopicSink as _, first_route};
use crate::tasks;

/// The most that a request waits for a barrier or a revision, whatever its deadline, unless an election
/// may take longer.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// Heartbeats that a request waits for the link to its receiver's node: a node that has just started
/// dials within two.
const LINK_WAIT: u32 = 10;

/// The error text for a receiver that the tables know and to which no route leads.
pub(crate) const UNREACHABLE: &str = "the receiver is known but cannot be reached now; try again";

/// Resolves and delivers a request, and returns the receiver for a later cancel. `None`: it has been
/// answered, or its resolution goes on; then [`Delivery::Routed`] follows.
pub(crate) fn dispatch(router: &Arc<Router>, request: Box<Request>) -> Option<Receiver> {
    let mut request = router.order.behind(request)?;
    let Resolution::Routed(route) = resolve(router, &request) else {
        resolve_again(router, request, Freshness::Barrier);
        return None;
    };
    address(&mut request, &route);
    match route.receiver.try_deliver(request) {
        Ok(()) => Some(route.receiver),
        Err(DeliveryError::Busy(request)) => {
            request.fail(busy());
            None
        }
        Err(DeliveryError::Gone(request)) => {
            resolve_again(router, request, Freshness::Barrier);
            None
        }
    }
}

/// Addresses a request to the session of its route, if it has one.
fn address(request: &mut Request, route: &Route) {
    if let Some(destination) = route.destination {
        request.to = Address::Resolved(destination);
    }
}

fn busy() -> Failure {
    Failure::not_run(Code::BUSY, "the receiver's queue is full; try again later")
}

fn just_gone() -> Failure {
    Failure::not_run(Code::GONE, "the receiver has just gone; try again")
}

/// Resolves a request with what this node knows now.
pub(crate) fn resolve(router: &Router, request: &Request) -> Resolution {
    match request.to.recipient() {
        Recipient::Edge(edge) => resolve_edge(router, edge, request.tried),
        Recipient::Service => {
            let found = match request.kind {
                Kind::Call => {
                    let services = router.services.load();
                    router.select(services.method(&request.name), request.key, request.tried)
                }
                Kind::Message => {
                    let services = ServiceTopics(router).resolve(request);
                    first_route(services, router.sinks.iter().map(|sink| &**sink), request)
                }
            };
            match found {
                Resolution::Absent => missed_service(router, request.kind, &request.name),
                found => found,
            }
        }
    }
}

/// No service offers this now.
fn missed_service(router: &Router, kind: Kind, name: &str) -> Resolution {
    let missed = |offer: Offer| router.missed(|| Absentee::Service(offer));
    match kind {
        Kind::Call => missed(Offer::Method(name.to_owned())),
        Kind::Message => match missed(Offer::Topic(name.to_owned())) {
            Resolution::Absent => missed(Offer::Topic(ANY_TOPIC.to_owned())),
            found => found,
        },
    }
}

/// Resolves an edge with what this node knows now.
///
/// `tried`: its node has answered that this session is over; the removal is on its way into the tables.
pub(crate) fn resolve_edge(router: &Router, edge: EdgeId, tried: Option<Destination>) -> Resolution {
    let is_tried = |incarnation| tried == Some(Destination::Edge(edge, incarnation));
    match router.edges.get(edge) {
        Some(EdgeLocation::Remote(home)) if is_tried(home.incarnation) => Resolution::Unreachable,
        // Its connection has ended; the removal is on its way into the tables.
        Some(EdgeLocation::Local { incarnation, handle }) if handle.is_closed() || is_tried(incarnation) => {
            Resolution::Unreachable
        }
        Some(EdgeLocation::Local { incarnation, handle }) => Resolution::Routed(Route {
            node: None,
            receiver: Receiver::Session(handle),
            destination: Some(Destination::Edge(edge, incarnation)),
        }),
        Some(EdgeLocation::Remote(home)) => match router.peers.reach(home.node, home.epoch) {
            Reachability::Linked(link) => Resolution::Routed(Route {
                node: Some(home.node),
                receiver: Receiver::Link(link),
                destination: Some(Destination::Edge(edge, home.incarnation)),
            }),
            Reachability::Unlinked => Resolution::Unreachable,
            // The rows of a node that is down are hidden (R5).
            Reachability::Down => router.missed(|| Absentee::Node(home.node)),
        },
        // Newer tables name its new home.
        Some(EdgeLocation::Superseded(_)) => Resolution::Absent,
        None => router.missed(|| Absentee::Edge(edge)),
    }
}

/// How long a resolution may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    began: Instant,
    /// For a link to come up.
    link: Instant,
    /// For any state.
    deadline: Instant,
    /// As [`Request::patient`].
    patient: bool,
}

impl Patience {
    /// From now until a deadline.
    pub(crate) fn until(router: &Router, deadline: Instant, patient: bool) -> Self {
        let began = Instant::now();
        Patience { began, link: began + router.heartbeat * LINK_WAIT, deadline, patient }
    }
}

/// Re-resolves until a route exists, the recipient is known to be absent, or the grace period ends; always
/// tries once more at the end.
///
/// # Cancel safety
/// Dropping the future has no effect.
pub(crate) async fn resolve_reachable(
    router: &Router,
    patience: Patience,
    resolve: impl Fn() -> Resolution,
) -> Resolution {
    let mut links = router.peers.linked();
    loop {
        let found = resolve();
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
        // A receiver that reconnects or leaves the tables changes no link. Looking once a heartbeat costs less than
        // waking every waiting request for every applied batch.
        let pause = until.min(Instant::now() + router.heartbeat);
        let _ = tokio::time::timeout_at(pause.into(), links.changed()).await;
    }
}

/// The session that another node asks for, if this node holds it under this generation.
pub(crate) fn find_local(router: &Router, destination: Destination) -> Option<Receiver> {
    let handle = match destination {
        Destination::Edge(edge, incarnation) => match router.edges.get(edge) {
            Some(EdgeLocation::Local { incarnation: held, handle }) if held == incarnation => handle,
            _ => return None,
        },
        Destination::Service(service, session, epoch) if router.consensus.is_own_epoch(epoch) => {
            let entry = router.sessions.get(session.0)?;
            let same = matches!(entry.owner, SessionOwner::Service(held, _) if held == service);
            same.then_some(entry.handle)?
        }
        Destination::Service(..) => return None,
    };
    Some(Receiver::Session(handle))
}

/// Resolves a request once more, as soon as the tables are new enough. Messages keep their order; see
/// [`super::ordering`].
pub(crate) fn resolve_again(router: &Arc<Router>, request: Box<Request>, freshness: Freshness) {
    let router = router.clone();
    match OrderKey::of(&request) {
        None => {
            let work = async move { resolve_batch(&router, vec![*request], freshness).await };
            tasks::spawn(tasks::Kind::Resolution, work);
        }
        Some(key) => {
            if router.order.join(key.clone(), request, freshness) {
                tasks::spawn(tasks::Kind::Resolution, drain_key(router, key));
            }
        }
    }
}

/// Resolves everything that waits under one key.
async fn drain_key(router: Arc<Router>, key: OrderKey) {
    loop {
        let (requests, freshness) = router.order.next(&key);
        if requests.is_empty() {
            return;
        }
        resolve_batch(&router, requests, freshness).await;
    }
}

/// Waits until the tables are new enough, then delivers these requests one after the other.
async fn resolve_batch(router: &Arc<Router>, requests: Vec<Request>, freshness: Freshness) {
    // A barrier that queues behind another one fails only after twice the time in which a quorum is lost.
    let patience = RESOLVE_MAX.max(router.timing.no_quorum_after() * 3);
    let most = Instant::now() + patience;
    let deadline = requests.iter().map(|request| request.deadline).max().map_or(most, |last| last.min(most));
    if let Err(error) = router.refresh(freshness, deadline).await {
        for request in requests {
            match resolve(router, &request) {
                // A known route needs no quorum (R10).
                Resolution::Routed(route) => deliver(request, route),
                _ => request.fail(error.clone().into()),
            }
        }
        return;
    }
    // All share the wait for one link.
    let patience = Patience::until(router, most, false);
    let mut deferred = false;
    for request in requests {
        deferred = match deferred {
            // It must not overtake the one that is resolved again.
            true => defer(router, request),
            false => resolve_and_deliver(router, request, freshness, patience).await,
        };
    }
}

fn defer(router: &Arc<Router>, request: Request) -> bool {
    resolve_again(router, Box::new(request), Freshness::Barrier);
    true
}

/// Delivers one request; true if it has to be resolved again. Only the link part of `patience` is shared.
async fn resolve_and_deliver(
    router: &Arc<Router>,
    request: Request,
    freshness: Freshness,
    patience: Patience,
) -> bool {
    let patience = Patience { deadline: request.deadline, patient: request.patient, ..patience };
    match resolve_reachable(router, patience, || resolve(router, &request)).await {
        Resolution::Routed(route) => deliver(request, route),
        Resolution::Unreachable => request.fail(Failure::not_run(Code::GONE, UNREACHABLE)),
        // The node that redirected may itself have missed a newer session: that miss needs a barrier too.
        Resolution::Absent if freshness != Freshness::Barrier => return defer(router, request),
        Resolution::InGrace(_) | Resolution::Absent => request.fail(absent(&request)),
    }
    false
}

/// Delivers a request whose resolution took a while, and reports the receiver to its origin.
fn deliver(mut request: Request, route: Route) {
    address(&mut request, &route);
    let (origin, id) = (request.origin.clone(), request.id);
    match route.receiver.try_deliver(Box::new(request)) {
        Ok(()) => {
            if !origin.routed(id, &route.receiver) {
                // The origin has ended: no answer is needed.
                route.receiver.deliver_always(Delivery::Cancel(Key { origin: origin.no(), id }));
            }
        }
        Err(DeliveryError::Busy(request)) => request.fail(busy()),
        Err(DeliveryError::Gone(request)) => request.fail(just_gone()),
    }
}

/// The failure of a request without a receiver, in terms of its recipient.
fn absent(request: &Request) -> Failure {
    match (request.to.recipient(), request.kind) {
        (Recipient::Edge(edge), _) => {
            Failure::not_run(Code::NO_EDGE, format!("no edge {} is connected", edge.0))
        }
        (Recipient::Service, Kind::Call) => {
            Failure::not_run(Code::NO_METHOD, format!("no service offers method {:?}", &*request.name))
        }
        (Recipient::Service, Kind::Message) => {
            Failure::not_run(Code::NO_SERVICE, format!("no service takes topic {:?}", &*request.name))
        }
    }
}

/// Handles what a closed session or link has not read: requests are redirected once, the rest is dropped.
pub(crate) fn return_undelivered(router: &Arc<Router>, unread: impl IntoIterator<Item = Delivery>) {
    let unread: Vec<Delivery> = unread.into_iter().collect();
    let cancelled = |unread: &Delivery| if let Delivery::Cancel(key) = unread { Some(*key) } else { None };
    let cancelled: HashSet<Key> = unread.iter().filter_map(cancelled).collect();
    for delivery in unread {
        match delivery {
            Delivery::Request(request) if cancelled.contains(&request.key()) => request.fail_cancelled(),
            Delivery::Request(request) => return_request(router, request),
            Delivery::Open(reply) => {
                let _ = reply.send(Err(Code::GONE));
            }
            Delivery::Routed(..) | Delivery::Answer(..) | Delivery::Cancel(_) => {}
        }
    }
}

/// Redirects a request that its receiver has not read.
fn return_request(router: &Arc<Router>, request: Box<Request>) {
    match (&request.origin, request.to.destination()) {
        // The node at the other end redirects it.
        (Origin::Link(..), Some(destination)) => request.fail(moved(router, destination)),
        _ => redirect(router, request, just_gone()),
    }
}

/// Resolves a request again if its failure allows a redirect ([`Failure::redirect`]); otherwise fails it.
pub(crate) fn redirect(router: &Arc<Router>, mut request: Box<Request>, failure: Failure) {
    match failure.redirect(request.tried.is_none()) {
        Some(freshness) => {
            request.tried = request.to.destination();
            resolve_again(router, request, freshness);
        }
        None if failure.code == Code::MOVED => {
            request.fail(Failure::not_run(Code::GONE, "the receiver has moved twice; try again"));
        }
        None => request.fail(failure),
    }
}

/// A revision at which the tables have the receiver's present home: at least the applied one, and for an edge that
/// has moved at least its move, which this node may not have applied yet.
pub(crate) fn newer_revision(router: &Router, destination: Destination) -> Revision {
    let applied = router.consensus.applied();
    match destination {
        Destination::Edge(edge, _) => match router.edges.get(edge) {
            Some(EdgeLocation::Superseded(to)) => applied.max(to.0.revision),
            _ => applied,
        },
        Destination::Service(..) => applied,
    }
}

/// The failure of a request that reached a node which does not hold the session; it names [`newer_revision`].
pub(crate) fn moved(router: &Router, destination: Destination) -> Failure {
    let revision = Some(newer_revision(router, destination));
    Failure { revision, ..Failure::not_run(Code::MOVED, "the session is elsewhere") }
}
