//! The mesh port: Raft's gRPC and the links for calls and streams, told apart by their first bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_wire::conn::MAGIC;
use limes_wire::driver::{Mailbox, drive};
use limes_wire::transport::tune;
use limes_wire::{Code, Conn, limits::Limits};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::ACCEPT_PAUSE;
use crate::config::Cap;
use crate::limits::descriptors::DescriptorBudget;
use crate::mesh::context::MeshContext;
use crate::mesh::link::Link;
use crate::router::message::{LinkHandle, Receiver};
use crate::tasks::Kind;
use crate::telemetry::port::Port;
use crate::transport::idle::Guests;
use crate::transport::limiter::{ConnectionLimiter, Permit};
use crate::transport::peek::{HTTP2, PeekBackoff, plain};
use crate::transport::watched::Watched;

/// What Raft's server takes over.
pub(crate) type RaftIo = mpsc::Sender<Watched>;

/// What the mesh port uses.
#[derive(Clone)]
pub(crate) struct NodePort {
    /// For links.
    pub(crate) mesh: Arc<MeshContext>,
    /// `limits.handshake`.
    pub(crate) handshake: Duration,
    /// `limits.stall`.
    pub(crate) stall: Duration,
    /// Bounds the connections of this port.
    pub(crate) descriptors: Arc<DescriptorBudget>,
}

/// Accepts until the task is dropped.
pub(crate) async fn serve(port: NodePort, listener: TcpListener, raft: RaftIo) {
    // 1,024 each as a rule: those that have not said yet which node they are, of which the oldest makes
    // room, and Raft's, of which the one that has been silent for the longest does.
    let part = port.descriptors.part();
    let (gate, guests) = (ConnectionLimiter::new(Cap::Unlimited, part), Guests::new(part));
    loop {
        match listener.accept().await {
            Ok((socket, remote)) => {
                let remote = plain(remote);
                let Ok(place) = gate.enter(remote.ip()) else { continue };
                let newcomer = Newcomer { port: port.clone(), remote, place, guests: guests.clone() };
                port.mesh.tasks.spawn_connection(Kind::Link, newcomer.route(socket, raft.clone()));
            }
            Err(error) => {
                warn!(%error, "cannot accept nodes; is the limit of open files reached?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that has said nothing yet.
struct Newcomer {
    port: NodePort,
    remote: SocketAddr,
    place: Permit,
    guests: Arc<Guests>,
}

impl Newcomer {
    async fn route(self, socket: TcpStream, raft: RaftIo) {
        if let Err(error) = tune(&socket) {
            return debug!(%error, "cannot set socket options");
        }
        let guess = tokio::select! {
            guess = timeout(self.port.handshake, sniff(&socket)) => guess,
            () = self.place.shed() => return self.cut(Code::LIMIT, "it said nothing and made room for others"),
        };
        match guess {
            Ok(Ok(Dialect::Raft)) => {
                let stall = self.port.stall;
                let socket = Watched::new(socket, self.guests.enter(), stall);
                if raft.send(socket).await.is_err() {
                    debug!("raft is not running; a node's connection is closed");
                }
            }
            Ok(Ok(Dialect::Mesh)) => {
                let Newcomer { port, remote, place, .. } = self;
                let mailbox = Mailbox::new();
                let handle = LinkHandle::new(mailbox.clone());
                place.at(&Receiver::Link(handle.clone()));
                let handler = Link::accepted(port.mesh, handle, remote, place);
                let limits = Limits { streams: usize::MAX, ..Limits::default() };
                let conn = Conn::server(Instant::now(), limits);
                drive(socket, conn, handler, mailbox).await;
            }
            Ok(Ok(Dialect::Neither)) => self.cut(Code::PROTOCOL, "neither Raft nor a node"),
            Ok(Err(error)) => debug!(%error, "mesh connection broke before it spoke"),
            Err(_) => self.cut(Code::HANDSHAKE_TIMEOUT, "it said nothing in time"),
        }
    }

    fn cut(&self, code: Code, text: &str) {
        if let Some(more) = self.port.mesh.telemetry.disconnected(Port::Mesh, code) {
            warn!(port = Port::Mesh.name(), remote = %self.remote, %code, text, more, "cut off");
        }
    }
}

enum Dialect {
    Raft,
    Mesh,
    Neither,
}

/// PeekBackoff at the first bytes without taking them.
async fn sniff(socket: &TcpStream) -> std::io::Result<Dialect> {
    let (mut first, mut looks) = ([0; HTTP2.len()], PeekBackoff::begin());
    loop {
        let seen = socket.peek(&mut first).await?;
        let seen = &first[..seen];
        match seen {
            [] => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ if seen == HTTP2 => return Ok(Dialect::Raft),
            _ if seen.starts_with(MAGIC) => return Ok(Dialect::Mesh),
            _ if HTTP2.starts_with(seen) || MAGIC.starts_with(seen) => {
                tokio::time::sleep(looks.next()).await;
            }
            _ => return Ok(Dialect::Neither),
        }
    }
}
