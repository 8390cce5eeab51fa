//! The mesh port: Raft's gRPC and the mesh links, distinguished by their first bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_wire::conn::MAGIC;
use limes_wire::driver::{Mailbox, drive};
use limes_wire::transport::tune;
use limes_wire::{Code, Conn, limits::Limits};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::listen::ACCEPT_PAUSE;
use crate::config::Cap;
use crate::limits::descriptors::DescriptorBudget;
use crate::mesh::context::MeshContext;
use crate::mesh::link::Link;
use crate::router::message::{LinkHandle, Receiver};
use crate::tasks::Kind;
use crate::telemetry::port::Port;
use crate::transport::address::canonical;
use crate::transport::connection_limiter::ConnectionLimiter;
use crate::transport::evictable_socket::EvictableSocket;
use crate::transport::idle_eviction::IdleEviction;
use crate::transport::peek::{HTTP2, PeekBackoff};
use crate::transport::permit::Permit;

/// Takes connections for Raft's server.
pub(crate) type RaftIo = mpsc::Sender<EvictableSocket>;

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
    // Two limits, 1,024 each as a rule: handshakes of links, of which the oldest silent one is evicted, and Raft's
    // connections, of which the one that has been silent for the longest is.
    let part = port.descriptors.part();
    let (limiter, idle) = (ConnectionLimiter::new(Cap::Unlimited, part), IdleEviction::new(part));
    loop {
        match listener.accept().await {
            Ok((socket, remote)) => {
                let remote = canonical(remote);
                let Ok(permit) = limiter.admit(remote.ip()) else { continue };
                let connection = Connection { port: port.clone(), remote, permit, idle: idle.clone() };
                port.mesh.tasks.spawn_connection(Kind::Link, connection.serve(socket, raft.clone()));
            }
            Err(error) => {
                warn!(%error, "cannot accept nodes; is the limit of open files reached?");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection whose protocol is not known yet.
struct Connection {
    port: NodePort,
    remote: SocketAddr,
    permit: Permit,
    idle: Arc<IdleEviction>,
}

impl Connection {
    async fn serve(self, socket: TcpStream, raft: RaftIo) {
        if let Err(error) = tune(&socket) {
            return debug!(%error, "cannot set socket options");
        }
        let detected = tokio::select! {
            detected = timeout(self.port.handshake, detect(&socket)) => detected,
            () = self.permit.evicted() => {
                return self.disconnect(Code::LIMIT, "it sent nothing and was evicted in favour of another");
            }
        };
        match detected {
            Ok(Ok(NodeProtocol::Raft)) => {
                let socket = EvictableSocket::new(socket, self.idle.admit(), self.port.stall);
                if raft.send(socket).await.is_err() {
                    debug!("raft is not running; a node's connection is closed");
                }
            }
            Ok(Ok(NodeProtocol::Mesh)) => self.link(socket).await,
            Ok(Ok(NodeProtocol::Unknown)) => self.disconnect(Code::PROTOCOL, "neither Raft nor a node"),
            Ok(Err(error)) => debug!(%error, "a mesh connection broke before its first bytes"),
            Err(_) => self.disconnect(Code::HANDSHAKE_TIMEOUT, "it sent nothing in time"),
        }
    }

    async fn link(self, socket: TcpStream) {
        let mailbox = Mailbox::new();
        let handle = LinkHandle::new(mailbox.clone());
        self.permit.set_receiver(&Receiver::Link(handle.clone()));
        let handler = Link::accepted(self.port.mesh, handle, self.remote, self.permit);
        let limits = Limits { streams: usize::MAX, ..Limits::default() };
        let conn = Conn::server(Instant::now(), limits);
        drive(socket, conn, handler, mailbox).await;
    }

    fn disconnect(&self, code: Code, text: &str) {
        if let Some(more) = self.port.mesh.telemetry.disconnected(Port::Mesh, code) {
            warn!(port = Port::Mesh.name(), remote = %self.remote, %code, text, more, "disconnected");
        }
    }
}

enum NodeProtocol {
    Raft,
    Mesh,
    Unknown,
}

/// Detects the protocol by its preface, without consuming it.
async fn detect(socket: &TcpStream) -> io::Result<NodeProtocol> {
    let (mut first, mut backoff) = ([0; HTTP2.len()], PeekBackoff::new());
    loop {
        let peeked = socket.peek(&mut first).await?;
        let preface = &first[..peeked];
        match preface {
            [] => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if preface == HTTP2 => return Ok(NodeProtocol::Raft),
            _ if preface.starts_with(MAGIC) => return Ok(NodeProtocol::Mesh),
            _ if HTTP2.starts_with(preface) || MAGIC.starts_with(preface) => sleep(backoff.next()).await,
            _ => return Ok(NodeProtocol::Unknown),
        }
    }
}
