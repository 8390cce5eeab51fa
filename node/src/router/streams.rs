//! Streams: the first record is read to find the way, everything after it is relayed as it is.
//!
//! The sending side of a stream writes OPEN; the gateway replaces its peer by the caller's id and
//! passes it on. From then on the bytes of both directions are relayed, records and all, so that
//! the explicit ends of R8 are those of the two ends and not the gateway's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_routing::{EdgeId, Revision};
use limes_wire::driver::{RecordStream, Stream, relay};
use limes_wire::frame::Role;
use limes_wire::stream::Open;
use limes_wire::{Code, limits};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use crate::node::Node;
use crate::router::edge_methods;
use crate::router::grace::Absentee;
use crate::router::message::{Mail, Target};
use crate::router::resolve::{
    Patience, Resolution, Route, UNREACHABLE, find_edge, find_here, newer_revision, resolve_reachable,
};
use crate::router::service_index::Offer;
use crate::router::stream_header::StreamTarget;

/// How long a stream may take to say what it wants, and to find its way.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// Where the answer to [`Mail::Open`] goes.
pub(crate) type Opened = oneshot::Sender<Result<Stream, Code>>;

/// The session that opens a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// Edge or service.
    pub(crate) role: Role,
    /// Its id.
    pub(crate) id: u64,
    /// Its address.
    pub(crate) remote: SocketAddr,
    /// It would say more than bytes, if the receiver is of its dialect.
    pub(crate) tunnel: bool,
}

/// Serves one stream that a peer has opened, to its end.
pub(crate) async fn serve(node: Arc<Node>, caller: Caller, stream: Stream) {
    let mut near = RecordStream::new(stream);
    if let Some(text) = node.pressure.refusal() {
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
        // PROTOCOL 9.1; the other dialect has limits of its own.
        Ok(Ok(open)) if open.meta.len() > limits::META_MAX && !near.is_memory() => {
            let text =
                format!("a meta of {} bytes is over the limit of {}", open.meta.len(), limits::META_MAX);
            return near.reset(Code::TOO_LARGE, &text).await;
        }
        Ok(Ok(open)) => open,
        Err(_) => return near.reset(Code::TIMEOUT, "no open record in time").await,
    };
    match timeout(OPEN_TIME, connect(&node, caller, open)).await {
        Ok(Ok(far)) => carry(&node, near, far).await,
        Ok(Err((code, text))) => near.reset(code, &text).await,
        Err(_) => near.reset(Code::TIMEOUT, "the receiver could not be reached in time").await,
    }
}

/// Relays until both directions have ended or one side breaks.
async fn carry(node: &Node, near: RecordStream, far: RecordStream) {
    let moved = relay(near.into_raw(), far.into_raw()).await;
    node.metrics.stream_ended(moved);
}

/// Finds the receiver and opens a stream to it; its OPEN is written.
async fn connect(node: &Arc<Node>, caller: Caller, open: Open) -> Result<RecordStream, (Code, String)> {
    let deadline = Instant::now() + OPEN_TIME;
    let (mut revision, mut tried) = (Revision(0), None);
    for attempt in 0..2 {
        let way = match find(node, caller, &open, tried) {
            Resolution::Routed(way) => way,
            _ => {
                let fresh = match revision {
                    Revision(0) => node.barrier(deadline).await,
                    revision => node.wait_applied(revision, deadline).await,
                };
                fresh.map_err(|failure| (failure.code, failure.text))?;
                let patience = Patience::until(node, deadline, caller.tunnel);
                match resolve_reachable(node, patience, || find(node, caller, &open, tried)).await {
                    Resolution::Routed(way) => way,
                    Resolution::Unreachable => return Err((Code::GONE, UNREACHABLE.to_owned())),
                    Resolution::InGrace(_) | Resolution::Absent => return Err(nobody(caller, &open)),
                }
            }
        };
        let target = way.target;
        match attach(node, caller, &open, way).await {
            Err((Code::MOVED, at, _)) if attempt == 0 => {
                (revision, tried) = (at, Some(target));
                let fresh = node.wait_applied(revision, deadline).await;
                fresh.map_err(|failure| (failure.code, failure.text))?;
            }
            Err((Code::GONE, ..)) if attempt == 0 => {
                tried = Some(target);
                let fresh = node.barrier(deadline).await;
                fresh.map_err(|failure| (failure.code, failure.text))?;
            }
            Err((code, _, text)) => return Err((code, text)),
            Ok(far) => return Ok(far),
        }
    }
    Err((Code::GONE, "the receiver has moved twice; try again".to_owned()))
}

/// The way by what this node knows now; to another node it needs the link for streams as well.
fn find(node: &Node, caller: Caller, open: &Open, tried: Option<Target>) -> Resolution {
    let found = match caller.role {
        Role::Edge => {
            // The reference takes any service of that name, each time anew.
            let key = if caller.tunnel { node.chance() } else { node.pick_key(caller.id, caller.remote) };
            match node.pick(node.services.load().name(&open.name), key, tried) {
                Resolution::Absent => node.missed(|| Absentee::Service(Offer::Name(open.name.to_string()))),
                found => found,
            }
        }
        _ => find_edge(node, EdgeId(open.peer), tried),
    };
    match found {
        Resolution::Routed(way) if way.node != node.id() && node.peers.streams(way.node).is_none() => {
            Resolution::Unreachable
        }
        found => found,
    }
}

fn nobody(caller: Caller, open: &Open) -> (Code, String) {
    match caller.role {
        Role::Edge => (Code::NO_SERVICE, format!("no service is named {:?}", &*open.name)),
        _ => (Code::NO_EDGE, format!("no edge {} is connected", open.peer)),
    }
}

type Attach = Result<RecordStream, (Code, Revision, String)>;

/// Opens a stream to the receiver's session here, or to its node.
async fn attach(node: &Node, caller: Caller, open: &Open, way: Route) -> Attach {
    let onward = Open { peer: caller.id, ..open.clone() };
    if way.node == node.id() {
        return enter(&way.outbox, onward, caller.tunnel).await;
    }
    let Some(link) = node.peers.streams(way.node) else {
        return Err((Code::GONE, Revision(0), "the way to the receiver's node is down".to_owned()));
    };
    let mut far = open_on(&link).await?;
    let hop = StreamTarget { target: way.target, caller: caller.id, tunnel: caller.tunnel }.into_open(open);
    far.write_open(&hop).await.map_err(broken)?;
    match far.read_accept().await {
        Ok(_) => Ok(far),
        Err(error) => match error.code() {
            Code::MOVED => Err((Code::MOVED, StreamTarget::revision(&error), error.to_string())),
            code => Err((code, Revision(0), error.to_string())),
        },
    }
}

async fn enter(outbox: &crate::router::message::Outbox, mut open: Open, tunnel: bool) -> Attach {
    let mut far = open_on(outbox).await?;
    if far.is_memory() {
        // A peer of the geminio dialect, whose session wants to know.
        open.meta = [&[u8::from(tunnel)][..], &open.meta].concat().into();
    }
    far.write_open(&open).await.map_err(broken)?;
    Ok(far)
}

async fn open_on(outbox: &crate::router::message::Outbox) -> Attach {
    let (reply, opened) = oneshot::channel();
    let gone = || (Code::GONE, Revision(0), "the receiver has just gone".to_owned());
    outbox.push(Mail::Open(reply), 0).map_err(|_| gone())?;
    match opened.await {
        Ok(Ok(stream)) => Ok(RecordStream::new(stream)),
        Ok(Err(code)) => Err((code, Revision(0), "the receiver takes no more streams".to_owned())),
        Err(_) => Err(gone()),
    }
}

fn broken(error: impl std::fmt::Display) -> (Code, Revision, String) {
    (Code::GONE, Revision(0), format!("the stream broke while it was opened: {error}"))
}

/// Serves a stream that another node has opened for one of its sessions.
pub(crate) async fn serve_mesh(node: Arc<Node>, stream: Stream) {
    let mut near = RecordStream::new(stream);
    let Ok(Ok(hop)) = timeout(OPEN_TIME, near.read_open()).await else { return };
    if edge_methods::is_question(&hop) {
        return edge_methods::answer(&node, near).await;
    }
    let Some((target, open)) = StreamTarget::from_open(hop) else {
        return near.reset(Code::PROTOCOL, "a hop without a target").await;
    };
    let Some(outbox) = find_here(&node, target.target) else {
        let text = StreamTarget::moved_text(newer_revision(&node, target.target));
        return near.reset(Code::MOVED, &text).await;
    };
    let onward = Open { peer: target.caller, ..open };
    match timeout(OPEN_TIME, enter(&outbox, onward, target.tunnel)).await {
        Ok(Ok(far)) => {
            if near.write_accept(&[]).await.is_ok() {
                carry(&node, near, far).await;
            }
        }
        Ok(Err((code, _, text))) => near.reset(code, &text).await,
        Err(_) => near.reset(Code::TIMEOUT, "the receiver did not take the stream in time").await,
    }
}
