//! The edge and the service port: each connection becomes a session in a task of its own.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use limes_wire::driver::{Mailbox, drive};
use limes_wire::frame::{Frame, GoAway, Role};
use limes_wire::limits::{CALLS_MAX, Limits};
use limes_wire::transport::tls::TlsServer;
use limes_wire::transport::{AnyTransport, Transport as _, tune};
use limes_wire::{Code, Conn, geminio};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::listen::ACCEPT_PAUSE;
use crate::limits::descriptors::DescriptorBudget;
use crate::router::message::{Receiver, SessionHandle, TaskHandle};
use crate::session::context::SessionContext;
use crate::session::geminio::GeminioSession;
use crate::session::native::NativeSession;
use crate::tasks;
use crate::telemetry::dictionary;
use crate::telemetry::port::Port;
use crate::transport::address::canonical;
use crate::transport::connection_limiter::{ConnectionLimiter, Full};
use crate::transport::passthrough::{self, Passthrough};
use crate::transport::permit::Permit;

/// A fatal TLS alert, `internal_error`, as sent before any handshake message (RFC 8446, 5.1 and 6).
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// What the port of edges or of services uses.
#[derive(Clone)]
pub(crate) struct PeerPort {
    /// Whose port it is.
    pub(crate) role: Role,
    /// TLS, if the port speaks it.
    pub(crate) tls: Option<TlsServer>,
    /// For sessions.
    pub(crate) ctx: Arc<SessionContext>,
    /// Bounds the connections of edges and services together.
    pub(crate) descriptors: Arc<DescriptorBudget>,
    /// Tracks connections from the accept until the socket is closed.
    pub(crate) connections: TaskTracker,
    /// Takes connections of other protocols, on the edge port.
    pub(crate) passthrough: Option<Arc<Passthrough>>,
}

impl PeerPort {
    /// Accepts until the task is dropped.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let limits = &self.ctx.limits;
        let (per_address, handshakes) = (limits.per_address, limits.handshakes);
        let limiter = ConnectionLimiter::with_descriptors(per_address, handshakes, self.descriptors.clone());
        loop {
            let (socket, remote) = match listener.accept().await {
                Ok((socket, remote)) => (socket, canonical(remote)),
                Err(error) => {
                    warn!(role = ?self.role, %error, "cannot accept; is the limit of open files reached?");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.admit(&limiter, &socket, remote) {
                Ok(permit) => self.begin(socket, remote, permit),
                Err(refusal) => self.turn_away(socket, remote, refusal.to_string()),
            }
        }
    }

    fn begin(&self, socket: TcpStream, remote: SocketAddr, permit: Permit) {
        self.ctx.telemetry.metrics.increment(dictionary::ACCEPTED);
        let connection = Connection { port: self.clone(), remote, permit };
        match &self.tls {
            None => {
                let greeting = connection.greet(socket.into(), Instant::now());
                tasks::spawn(tasks::Kind::Session, self.connections.track_future(greeting));
            }
            Some(tls) => {
                let greeting = connection.secure(tls.clone(), socket);
                tasks::spawn(tasks::Kind::Session, self.connections.track_future(greeting));
            }
        }
    }

    /// The connection's permit, or the limit that it would cross (PROTOCOL 9.2).
    fn admit(
        &self,
        limiter: &Arc<ConnectionLimiter>,
        socket: &TcpStream,
        remote: SocketAddr,
    ) -> Result<Permit, Refusal> {
        let most = self.ctx.limits.sessions;
        if self.ctx.sessions.len() >= most {
            return Err(Refusal::Sessions(most));
        }
        if let Some(text) = self.ctx.memory.refusal() {
            return Err(Refusal::Memory(text));
        }
        tune(socket)?;
        Ok(limiter.admit(remote.ip())?)
    }

    /// Sends the reason and closes (PROTOCOL 9.4). Never waits: a fresh socket has room for it.
    fn turn_away(&self, socket: TcpStream, remote: SocketAddr, text: String) {
        let port = Port::of(self.role);
        self.ctx.telemetry.metrics.increment(dictionary::TURNED_AWAY);
        if let Some(more) = self.ctx.telemetry.log.first(port, Code::LIMIT, Instant::now()) {
            warn!(port = port.name(), %remote, text, more, "turned away");
        }
        let mut reason = BytesMut::new();
        if self.tls.is_some() {
            reason.extend_from_slice(&ALERT);
        } else {
            Frame::GoAway(GoAway::new(Code::LIMIT, text)).encode(&mut reason);
        }
        let _ = socket.into_std().and_then(|mut socket| socket.write_all(&reason));
    }
}

/// Why a connection is turned away.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0} edges and services are connected to this node (limits.sessions)")]
    Sessions(usize),
    #[error("{0}")]
    Memory(String),
    #[error("cannot set socket options: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Full(#[from] Full),
}

/// A connection with a permit.
struct Connection {
    port: PeerPort,
    remote: SocketAddr,
    permit: Permit,
}

impl Connection {
    /// Completes the TLS handshake first.
    async fn secure(self, tls: TlsServer, socket: TcpStream) {
        let began = Instant::now();
        // Boxed, so that the long-lived task does not hold the memory of the handshake.
        let handshake = Box::pin(timeout(self.port.ctx.limits.handshake, tls.accept(socket)));
        let result = tokio::select! {
            result = handshake => result,
            () = self.permit.evicted() => return self.failed(Code::LIMIT, "evicted in favour of another connection"),
        };
        match result {
            Ok(Ok(stream)) => self.greet(stream.into(), began).await,
            Ok(Err(error)) => self.failed(Code::PROTOCOL, &error.to_string()),
            Err(_) => self.failed(Code::HANDSHAKE_TIMEOUT, "no TLS handshake in time"),
        }
    }

    fn failed(&self, code: Code, text: &str) {
        let port = Port::of(self.port.role);
        if let Some(more) = self.port.ctx.telemetry.disconnected(port, code) {
            warn!(port = port.name(), remote = %self.remote, %code, text, more, "TLS handshake failed");
        }
    }

    /// Detects the peer's protocol by its first byte.
    async fn greet(self, mut transport: AnyTransport, began: Instant) {
        let time = self.port.ctx.limits.handshake.saturating_sub(began.elapsed());
        let first = tokio::select! {
            first = timeout(time, transport.first_byte()) => first,
            // The session closes it: its mailbox gets the command when it is set below.
            () = self.permit.evicted() => Ok(Ok(None)),
        };
        let first = first.ok().and_then(Result::ok).flatten();
        if first.is_some() && self.port.passthrough.is_some() {
            let time = self.port.ctx.limits.handshake.saturating_sub(began.elapsed());
            let foreign = tokio::select! {
                foreign = passthrough::is_foreign(&mut transport, time) => foreign,
                () = self.permit.evicted() => false,
            };
            if foreign {
                return self.pass_on(transport);
            }
        }
        self.begin(transport, began, first == Some(geminio::MAGIC[0]));
    }

    /// Relays the connection to the other gateway, in a task that shutdown does not wait for.
    fn pass_on(self, transport: AnyTransport) {
        let Connection { port, remote, mut permit } = self;
        permit.welcomed();
        tasks::spawn(tasks::Kind::Session, async move {
            if let Some(passthrough) = &port.passthrough {
                passthrough.carry(&port.ctx.telemetry.log, transport, remote).await;
            }
            drop(permit);
        });
    }

    /// Drives the connection in a task of its own. A peer that has sent nothing is handled by the native
    /// protocol, which can express why it is closed.
    fn begin(self, transport: AnyTransport, began: Instant, is_geminio: bool) {
        let Connection { port, remote, permit } = self;
        let PeerPort { role, ctx, connections, .. } = port;
        let limits = ctx.limits.connection();
        if is_geminio {
            let mailbox = Mailbox::new();
            let handle = TaskHandle::new(mailbox.clone());
            permit.set_receiver(&Receiver::Session(SessionHandle::Geminio(handle.clone())));
            let limits = reference_limits(role, limits);
            let handler = GeminioSession::new(ctx, role, handle, remote, permit);
            let conn = geminio::Conn::server(began, limits);
            let driven = drive(transport, conn, handler, mailbox);
            tasks::spawn(tasks::Kind::Session, connections.track_future(driven));
            return;
        }
        let mailbox = Mailbox::new();
        let handle = SessionHandle::Native(TaskHandle::new(mailbox.clone()));
        permit.set_receiver(&Receiver::Session(handle.clone()));
        let handler = NativeSession::new(ctx, role, handle, remote, permit);
        let conn = Conn::server(began, limits);
        let driven = drive(transport, conn, handler, mailbox);
        tasks::spawn(tasks::Kind::Session, connections.track_future(driven));
    }
}

/// Limits of a client of the reference. Its protocol does not bound streams, and the one connection of a service carries
/// those of all its edges: as many as there may be calls.
fn reference_limits(role: Role, limits: Limits) -> Limits {
    match role {
        Role::Service => Limits { streams: limits.streams.max(CALLS_MAX), ..limits },
        _ => limits,
    }
}

/// Reads the TLS files of a port; `None`: it has no TLS.
///
/// # Errors
/// A file cannot be used; the text names the port (`what`) and the file.
pub(crate) fn tls(what: &str, tls: &crate::config::Tls) -> io::Result<Option<TlsServer>> {
    tls.server().map_err(|error| io::Error::other(format!("cannot set up TLS for {what}: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::{Bytes, BytesMut};
    use limes_wire::geminio::{Body, ConnData, Packet};
    use limes_wire::limits::STREAMS_MAX;

    use super::*;

    /// How many streams one geminio connection can be offered, up to a few more than yamux could have.
    fn offers(role: Role) -> usize {
        let now = Instant::now();
        let mut conn = geminio::Conn::server(now, reference_limits(role, Limits::default()));
        let hello = Body::Conn { acquire: true, heartbeat: 1, client: 0, data: ConnData::default() };
        let mut bytes = BytesMut::new();
        let body = Packet { id: 1, body: hello }.encode(&mut bytes).unwrap();
        bytes.extend_from_slice(&body);
        conn.next(now, &mut bytes).unwrap();
        conn.welcome(1);
        (0..STREAMS_MAX + 100).take_while(|_| conn.offer(now, String::new(), Bytes::new()).is_ok()).count()
    }

    #[test]
    fn a_geminio_service_may_have_more_streams_than_a_native_connection() {
        assert_eq!((offers(Role::Service), offers(Role::Edge)), (STREAMS_MAX + 100, STREAMS_MAX));
    }
}
