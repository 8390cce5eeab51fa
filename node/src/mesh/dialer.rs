//! Dials the other nodes and watches the links to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use limes_routing::NodeId;
use limes_wire::driver::{Mailbox, drive};
use limes_wire::frame::GoAway;
use limes_wire::transport::tune;
use limes_wire::{Code, Conn, limits::Limits};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::context::MeshContext;
use super::handshake;
use super::link::Link;
use crate::router::message::{LinkCommand, LinkHandle};
use crate::router::peers::{LinkKind, Peer};
use crate::tasks::Kind;

/// How long one attempt to reach a node may take.
const DIAL_TIME: Duration = Duration::from_secs(1);
/// Heartbeats without a sign of life after which other nodes are preferred.
const SILENT: u32 = 4;
/// Times `cluster.down_after` without a sign of life after which a link is given up. By then the
/// cluster, if there is one, has declared the node down.
const DEAD: u32 = 2;

/// Dials what is not linked and pings what is, once a heartbeat, until the node stops. A link that
/// has brought no sign of life for long is closed: its connection may be half-open, and what waits on
/// it must end.
pub(crate) async fn keep_links(mesh: Arc<MeshContext>) {
    let heartbeat = mesh.heartbeat;
    let mut tick = interval(heartbeat);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = mesh.peers.linked();
    let (mut last, mut regular_since) = (Instant::now(), Instant::now());
    loop {
        // A node that has just come is dialled at once; pings keep their beat.
        let is_beat = tokio::select! {
            _ = tick.tick() => true,
            _ = changes.changed() => false,
        };
        let now = Instant::now();
        if is_beat {
            // SessionOwner was asleep itself takes nobody for silent.
            if now - last > heartbeat * SILENT {
                regular_since = now;
            }
            last = now;
        }
        for (id, peer) in mesh.peers.all() {
            if let Some(link) = mesh.peers.any_calls(id).filter(|_| is_beat) {
                let answered = Duration::from_millis(peer.signs.answered_ms.load(Ordering::Relaxed));
                let silence = now - (mesh.peers.born + answered).max(regular_since).min(now);
                peer.signs.silent.store(silence > heartbeat * SILENT, Ordering::Relaxed);
                if silence > mesh.down_after * DEAD {
                    warn!(peer = %peer.name, ?silence, "no sign of life: the links are given up and dialled anew");
                    mesh.peers.hang_up(id);
                    continue;
                }
                link.command(LinkCommand::Ping);
            }
            let missing = mesh.peers.any_calls(id).is_none() || mesh.peers.streams(id).is_none();
            if missing && !peer.signs.dialling.swap(true, Ordering::AcqRel) {
                mesh.tasks.spawn_connection(Kind::Link, dial(mesh.clone(), id, peer));
            }
        }
    }
}

async fn dial(mesh: Arc<MeshContext>, id: NodeId, peer: Peer) {
    for kind in [LinkKind::Calls, LinkKind::Streams] {
        let linked = match kind {
            LinkKind::Calls => mesh.peers.any_calls(id).is_some(),
            LinkKind::Streams => mesh.peers.streams(id).is_some(),
        };
        if linked {
            continue;
        }
        match timeout(DIAL_TIME, connect(&mesh, id, &peer.addr)).await {
            Ok(Ok(link)) => {
                mesh.peers.set_link(id, kind, &link);
                info!(peer = %peer.name, lane = ?kind, "linked");
            }
            Ok(Err(error)) => {
                debug!(peer = %peer.name, addr = %peer.addr, %error, "cannot link");
                break;
            }
            Err(_) => break,
        }
    }
    peer.signs.dialling.store(false, Ordering::Release);
}

/// One connection, greeted.
async fn connect(mesh: &Arc<MeshContext>, id: NodeId, addr: &str) -> std::io::Result<LinkHandle> {
    let no_cluster = || std::io::Error::other("this node belongs to no cluster yet");
    let hello = handshake::hello(mesh, id).ok_or_else(no_cluster)?;
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
        let goaway = GoAway::new(Code::HANDSHAKE_TIMEOUT, "no welcome in time");
        handle.command(LinkCommand::Close(goaway));
    });
    welcomed.await.map_err(|_| std::io::Error::other("the node did not send a welcome"))?;
    scopeguard::ScopeGuard::into_inner(guard);
    Ok(handle)
}
