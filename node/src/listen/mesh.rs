//! The mesh port: Raft's gRPC and the links for calls and streams, told apart by their first bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_wire::driver::{Mailbox, drive, tune};
use limes_wire::{Code, Conn, limits::Limits};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::ACCEPT_PAUSE;
use super::gate::{Gate, Place};
use crate::config::Cap;
use crate::mesh::Link;
use crate::node::Node;
use crate::task;

/// What Raft's server takes over.
pub(crate) type RaftIo = mpsc::Sender<TcpStream>;

/// The first bytes of HTTP/2 (RFC 9113, 3.4).
const HTTP2: &[u8] = b"PRI * ";
/// The first bytes of the native protocol.
const NATIVE: &[u8] = b"LIMES\r";
/// Connections that may keep us guessing at once; past it the oldest makes room.
const GUESSES: usize = 1_024;
/// How long a connection may keep us guessing.
const SNIFF_TIME: Duration = Duration::from_secs(5);

/// Accepts until the task is dropped.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener, raft: RaftIo) {
    let gate = Gate::new(Cap::Unlimited, GUESSES);
    loop {
        match listener.accept().await {
            Ok((socket, remote)) => {
                let Ok(place) = gate.enter(remote.ip()) else { continue };
                task::spawn(task::Kind::Mesh, route(node.clone(), socket, raft.clone(), place));
            }
            Err(error) => {
                warn!(%error, "cannot accept nodes; is the limit of open files reached?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn route(node: Arc<Node>, socket: TcpStream, raft: RaftIo, mut place: Place) {
    if let Err(error) = tune(&socket) {
        return debug!(%error, "cannot set socket options");
    }
    let guess = tokio::select! {
        guess = timeout(SNIFF_TIME, sniff(&socket)) => guess,
        () = place.shed() => return debug!("a mesh connection that said nothing made room for others"),
    };
    place.welcomed();
    match guess {
        Ok(Ok(Dialect::Raft)) => {
            if raft.send(socket).await.is_err() {
                debug!("raft is not running; a node's connection is closed");
            }
        }
        Ok(Ok(Dialect::Mesh)) => {
            let outbox = Mailbox::new();
            let handler = Link::accepted(node, outbox.clone());
            let limits = Limits { streams: usize::MAX, ..Limits::default() };
            let conn = Conn::server(Instant::now(), limits);
            drive(socket, conn, handler, outbox).await;
        }
        Ok(Ok(Dialect::Neither)) => {
            node.metrics.strange();
            if let Some(more) = node.notices.first(Code::PROTOCOL, Instant::now()) {
                warn!(remote = ?socket.peer_addr().ok(), more, "mesh port: neither Raft nor a node; closed");
            }
        }
        Ok(Err(error)) => debug!(%error, "mesh connection broke before it spoke"),
        Err(_) => debug!("mesh connection said nothing; closed"),
    }
}

enum Dialect {
    Raft,
    Mesh,
    Neither,
}

/// Looks at the first bytes without taking them.
async fn sniff(socket: &TcpStream) -> std::io::Result<Dialect> {
    let mut first = [0; 6];
    loop {
        let seen = socket.peek(&mut first).await?;
        let seen = &first[..seen];
        match seen {
            [] => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ if seen == HTTP2 => return Ok(Dialect::Raft),
            _ if seen == NATIVE => return Ok(Dialect::Mesh),
            _ if HTTP2.starts_with(seen) || NATIVE.starts_with(seen) => {
                // Readable stays set until bytes are taken: wait a little for the rest.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            _ => return Ok(Dialect::Neither),
        }
    }
}
