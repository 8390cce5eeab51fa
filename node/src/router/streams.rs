//! Streams: the first record is read to resolve the recipient, everything after it is relayed unchanged.
//!
//! The sending side of a stream writes OPEN; the gateway replaces its peer by the caller's id and
//! passes it on. From then on the bytes of both directions, with their records, are relayed, so that the explicit
//! ends of R8 come from the two peers and not from the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_routing::EdgeId;
use limes_wire::driver::{RecordStream, Stream, relay};
use limes_wire::frame::Role;
use limes_wire::stream::Open;
use limes_wire::{Code, limits};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use super::context::Router;
use super::edge_methods::EdgeMethods;
use super::grace::Absentee;
use super::message::{Destination, Failure, Freshness, Receiver};
use super::resolve::{Patience, UNREACHABLE, find_local, newer_revision, resolve_edge, resolve_reachable};
use super::route::{Resolution, Route};
use super::service_index::Offer;
use super::stream_header::StreamTarget;

/// How long a stream may take to send its OPEN, and to be connected to its receiver.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// The session that opens a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// Edge or service.
    pub(crate) role: Role,
    /// Its id.
    pub(crate) id: u64,
    /// Its address.
    pub(crate) remote: SocketAddr,
    /// A geminio stream, which carries packets beside bytes if the receiver is a geminio session too.
    pub(crate) tunnel: bool,
}

/// Serves one stream that a peer has opened, to its end.
pub(crate) async fn serve(router: Arc<Router>, caller: Caller, stream: Stream) {
    let mut near = RecordStream::new(stream);
    if let Some(text) = router.memory.refusal() {
        return near.reset(Code::BUSY, &text).await;
    }
    let open = match timeout(OPEN_TIME, near.read_open()).await {
        Ok(Err(error)) => {
            debug!(caller = caller.id, %error, "stream without a proper open");
            if error.code() == Code::PROTOCOL {
                near.reset(Code::PROTOCOL, &error.to_string()).await;
            }
            return;
        }
        // PROTOCOL 9.1; geminio has limits of its own.
        Ok(Ok(open)) if open.meta.len() > limits::META_MAX && !near.is_memory() => {
            let text =
                format!("a meta of {} bytes is over the limit of {}", open.meta.len(), limits::META_MAX);
            return near.reset(Code::TOO_LARGE, &text).await;
        }
        Ok(Ok(open)) => open,
        Err(_) => return near.reset(Code::TIMEOUT, "no open record in time").await,
    };
    match timeout(OPEN_TIME, connect(&router, caller, open)).await {
        Ok(Ok(far)) => carry(&router, near, far).await,
        Ok(Err(failure)) => near.reset(failure.code, &failure.text).await,
        Err(_) => near.reset(Code::TIMEOUT, "the receiver could not be reached in time").await,
    }
}

/// Relays until both directions have ended or one side breaks.
async fn carry(router: &Router, near: RecordStream, far: RecordStream) {
    let moved = relay(near.into_raw(), far.into_raw()).await;
    router.telemetry.metrics.stream_ended(moved);
}

/// Resolves the recipient and opens a stream to it; its OPEN is written.
async fn connect(router: &Arc<Router>, caller: Caller, open: Open) -> Result<RecordStream, Failure> {
    let deadline = Instant::now() + OPEN_TIME;
    let (mut freshness, mut tried) = (Freshness::Barrier, None);
    loop {
        let route = route(router, caller, &open, tried, freshness, deadline).await?;
        let destination = route.destination;
        let failure = match attach(router, caller, &open, route).await {
            Ok(far) => return Ok(far),
            Err(failure) => failure,
        };
        let Some(needed) = failure.redirect(tried.is_none()) else {
            let text = "the receiver has moved twice; try again";
            let moved = failure.code == Code::MOVED;
            return Err(if moved { Failure::not_run(Code::GONE, text) } else { failure });
        };
        router.refresh(needed, deadline).await?;
        (freshness, tried) = (needed, destination);
    }
}

/// The route of a stream; the recipient counts as absent only if the tables are as new as `freshness` (R4).
async fn route(
    router: &Router,
    caller: Caller,
    open: &Open,
    tried: Option<Destination>,
    freshness: Freshness,
    deadline: Instant,
) -> Result<Route, Failure> {
    let resolve = || resolve(router, caller, open, tried);
    if let Resolution::Routed(route) = resolve() {
        return Ok(route);
    }
    router.refresh(freshness, deadline).await?;
    let patience = Patience::until(router, deadline, caller.tunnel);
    match resolve_reachable(router, patience, resolve).await {
        Resolution::Routed(route) => Ok(route),
        Resolution::Unreachable => Err(Failure::not_run(Code::GONE, UNREACHABLE)),
        Resolution::InGrace(_) | Resolution::Absent => Err(absent(caller, open)),
    }
}

/// Resolves a stream with what this node knows now; another node is reachable if its link for streams is up.
fn resolve(router: &Router, caller: Caller, open: &Open, tried: Option<Destination>) -> Resolution {
    let found = match caller.role {
        Role::Edge => {
            // The reference selects among the services of that name at random.
            let key = if caller.tunnel { router.chance() } else { router.pick_key(caller.id, caller.remote) };
            match router.select(router.services.load().name(&open.name), key, tried) {
                Resolution::Absent => router.missed(|| Absentee::Service(Offer::Name(open.name.to_string()))),
                found => found,
            }
        }
        _ => resolve_edge(router, EdgeId(open.peer), tried),
    };
    match found {
        Resolution::Routed(Route { node: Some(node), .. }) if router.peers.streams(node).is_none() => {
            Resolution::Unreachable
        }
        found => found,
    }
}

fn absent(caller: Caller, open: &Open) -> Failure {
    match caller.role {
        Role::Edge => Failure::not_run(Code::NO_SERVICE, format!("no service is named {:?}", &*open.name)),
        _ => Failure::not_run(Code::NO_EDGE, format!("no edge {} is connected", open.peer)),
    }
}

/// Opens a stream to the receiver's session here, or to its node.
async fn attach(router: &Router, caller: Caller, open: &Open, route: Route) -> Result<RecordStream, Failure> {
    let Some(node) = route.node else {
        let onward = Open { peer: caller.id, ..open.clone() };
        return enter(&route.receiver, onward, caller.tunnel).await;
    };
    let (Some(link), Some(destination)) = (router.peers.streams(node), route.destination) else {
        return Err(Failure::not_run(Code::GONE, "the link to the receiver's node is down"));
    };
    let mut far = open_on(&Receiver::Link(link)).await?;
    let header = StreamTarget { destination, caller: caller.id, tunnel: caller.tunnel };
    far.write_open(&header.into_open(open)).await.map_err(broken)?;
    match far.read_accept().await {
        Ok(_) => Ok(far),
        Err(error) => {
            let failure = Failure::not_run(error.code(), error.to_string());
            let moved = error.code() == Code::MOVED;
            let revision = if moved { StreamTarget::revision(&error) } else { None };
            Err(Failure { revision, ..failure })
        }
    }
}

async fn enter(receiver: &Receiver, mut open: Open, tunnel: bool) -> Result<RecordStream, Failure> {
    let mut far = open_on(receiver).await?;
    if far.is_memory() {
        // The receiver is a geminio session, which needs the flag.
        open.meta = [&[u8::from(tunnel)][..], &open.meta].concat().into();
    }
    far.write_open(&open).await.map_err(broken)?;
    Ok(far)
}

async fn open_on(receiver: &Receiver) -> Result<RecordStream, Failure> {
    let (reply, opened) = oneshot::channel();
    receiver.open(reply);
    match opened.await {
        Ok(Ok(stream)) => Ok(RecordStream::new(stream)),
        Ok(Err(code)) => Err(Failure::not_run(code, "the receiver takes no more streams")),
        // The mailbox was full or closed.
        Err(_) => Err(Failure::not_run(Code::GONE, "the receiver has just gone")),
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::not_run(Code::GONE, format!("the stream broke while it was opened: {error}"))
}

/// Serves a stream that another node has opened for one of its sessions.
pub(crate) async fn serve_mesh(router: Arc<Router>, edge_methods: Arc<EdgeMethods>, stream: Stream) {
    let mut near = RecordStream::new(stream);
    let Ok(Ok(open)) = timeout(OPEN_TIME, near.read_open()).await else { return };
    if EdgeMethods::is_question(&open) {
        return edge_methods.answer(near).await;
    }
    let Some((target, open)) = StreamTarget::from_open(open) else {
        return near.reset(Code::PROTOCOL, "a stream between nodes names no destination").await;
    };
    let Some(receiver) = find_local(&router, target.destination) else {
        let text = StreamTarget::moved_text(newer_revision(&router, target.destination));
        return near.reset(Code::MOVED, &text).await;
    };
    let onward = Open { peer: target.caller, ..open };
    match timeout(OPEN_TIME, enter(&receiver, onward, target.tunnel)).await {
        Ok(Ok(far)) => {
            if near.write_accept(&[]).await.is_ok() {
                carry(&router, near, far).await;
            }
        }
        Ok(Err(failure)) => near.reset(failure.code, &failure.text).await,
        Err(_) => near.reset(Code::TIMEOUT, "the receiver did not take the stream in time").await,
    }
}
