//! Dials the other nodes and pings them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use limes_routing::NodeId;
use limes_wire::driver::{Mailbox, drive};
use limes_wire::frame::GoAway;
use limes_wire::transport::tune;
use limes_wire::{Code, Conn, limits::Limits};
use scopeguard::ScopeGuard;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::context::MeshContext;
use super::error::LinkError;
use super::failure_detector::{FailureDetector, Verdict};
use super::handshake;
use super::link::Link;
use crate::router::message::{LinkCommand, LinkHandle};
use crate::router::peers::{LinkKind, Peer};
use crate::tasks::Kind;

/// How long one attempt to reach a node may take.
const DIAL_TIME: Duration = Duration::from_secs(1);

/// Once a heartbeat, pings the nodes that are linked, closes the links to those that are dead, and dials those that are not
/// linked. Runs until the task is dropped.
pub(crate) async fn keep_links(mesh: Arc<MeshContext>) {
    let mut tick = interval(mesh.heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = mesh.peers.linked();
    let mut detector = FailureDetector::new(mesh.heartbeat, mesh.down_after, Instant::now());
    loop {
        // A new node is dialled at once; pings keep their beat.
        let is_beat = tokio::select! {
            _ = tick.tick() => true,
            _ = changes.changed() => false,
        };
        let now = Instant::now();
        if is_beat {
            detector.beat(now);
        }
        for (id, peer) in mesh.peers.all() {
            if is_beat && !check(&mesh, &detector, id, &peer, now) {
                continue;
            }
            let missing = mesh.peers.any_calls(id).is_none() || mesh.peers.streams(id).is_none();
            if missing && !peer.signs.dialling.swap(true, Ordering::AcqRel) {
                mesh.tasks.spawn_connection(Kind::Link, dial(mesh.clone(), id, peer));
            }
        }
    }
}

/// Pings a node if it is linked. Closes its links and returns false if it is dead.
fn check(mesh: &MeshContext, detector: &FailureDetector, id: NodeId, peer: &Peer, now: Instant) -> bool {
    let Some(link) = mesh.peers.any_calls(id) else { return true };
    let answered = mesh.peers.born + Duration::from_millis(peer.signs.answered_ms.load(Ordering::Relaxed));
    let verdict = detector.judge(answered, now);
    peer.signs.silent.store(verdict != Verdict::Alive, Ordering::Relaxed);
    if let Verdict::Dead(silence) = verdict {
        warn!(peer = %peer.name, ?silence, "the node answers no ping: closing its links and dialling it again");
        mesh.peers.hang_up(id);
        return false;
    }
    link.command(LinkCommand::Ping);
    true
}

/// Opens the links to a node that are missing.
async fn dial(mesh: Arc<MeshContext>, id: NodeId, peer: Peer) {
    for kind in [LinkKind::Calls, LinkKind::Streams] {
        let linked = match kind {
            LinkKind::Calls => mesh.peers.any_calls(id).is_some(),
            LinkKind::Streams => mesh.peers.streams(id).is_some(),
        };
        if linked {
            continue;
        }
        let connected = timeout(DIAL_TIME, connect(&mesh, id, &peer.addr)).await;
        match connected.unwrap_or(Err(LinkError::Timeout)) {
            Ok(link) => {
                mesh.peers.set_link(id, kind, &link);
                info!(peer = %peer.name, ?kind, "linked");
            }
            Err(error) => {
                debug!(peer = %peer.name, addr = %peer.addr, %error, "cannot link");
                break;
            }
        }
    }
    peer.signs.dialling.store(false, Ordering::Release);
}

/// Opens one connection and waits for the welcome.
///
/// # Cancel safety
/// Dropping the future closes the connection.
async fn connect(mesh: &Arc<MeshContext>, id: NodeId, addr: &str) -> Result<LinkHandle, LinkError> {
    let hello = handshake::hello(mesh, id).ok_or(LinkError::NoCluster)?;
    let socket = TcpStream::connect(addr).await?;
    tune(&socket)?;
    let mailbox = Mailbox::new();
    let handle = LinkHandle::new(mailbox.clone());
    let (ready, welcomed) = oneshot::channel();
    let handler = Link::dialled(mesh.clone(), handle.clone(), id, ready);
    let limits = Limits { streams: usize::MAX, ..Limits::default() };
    let conn = Conn::client(hello, Instant::now(), limits);
    mesh.tasks.spawn_connection(Kind::Link, drive(socket, conn, handler, mailbox));
    let guard = scopeguard::guard(handle.clone(), |handle| {
        let goaway = GoAway::new(Code::HANDSHAKE_TIMEOUT, LinkError::Timeout.to_string());
        handle.command(LinkCommand::Close(goaway));
    });
    welcomed.await.map_err(|_| LinkError::NoWelcome)?;
    ScopeGuard::into_inner(guard);
    Ok(handle)
}
