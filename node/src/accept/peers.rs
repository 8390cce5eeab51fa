//! The edge and the service port: each connection becomes a session in a task of its own.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use limes_wire::driver::tls::TlsServer;
use limes_wire::driver::{Mailbox, Transport, drive, drive_geminio, tune};
use limes_wire::frame::{Frame, GoAway, Role};
use limes_wire::limits::{CALLS_MAX, Limits};
use limes_wire::{Code, Conn, geminio};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::warn;

use super::ACCEPT_PAUSE;
use crate::node::Node;
use crate::session::native::Session;
use crate::tasks;
use crate::telemetry::port::Port;
use crate::transport::limiter::{ConnectionLimiter, Permit};
use crate::transport::passthrough;
use crate::transport::peek::plain;

/// What TLS says before anything is agreed: a fatal alert, "internal error" (RFC 8446, 5.1 and 6).
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// Accepts until the task is dropped.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener, role: Role, tls: Option<TlsServer>) {
    let limits = &node.config.limits;
    let gate = ConnectionLimiter::with_files(limits.per_address, limits.handshakes, node.files.clone());
    loop {
        let (socket, remote) = match listener.accept().await {
            Ok((socket, remote)) => (socket, plain(remote)),
            Err(error) => {
                warn!(?role, %error, "cannot accept; is the limit of open files reached?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match let_in(&node, &gate, &socket, remote) {
            Ok(place) => {
                node.metrics.accepted();
                let newcomer = Newcomer { node: node.clone(), role, remote, place };
                match &tls {
                    None => {
                        let greeting = newcomer.greet(Transport::Plain(socket), Instant::now());
                        tasks::spawn(tasks::Kind::Session, node.connections.track_future(greeting));
                    }
                    Some(tls) => {
                        let greeting = newcomer.secure(tls.clone(), socket);
                        tasks::spawn(tasks::Kind::Session, node.connections.track_future(greeting));
                    }
                }
            }
            Err(text) => turn_away(&node, Port::of(role), (socket, remote), text, tls.is_some()),
        }
    }
}

/// The connection's place, or which limit it would cross (PROTOCOL 9.2).
fn let_in(
    node: &Node,
    gate: &Arc<ConnectionLimiter>,
    socket: &TcpStream,
    remote: SocketAddr,
) -> Result<Permit, String> {
    let most = node.config.limits.sessions;
    if node.sessions.len() >= most {
        return Err(format!("{most} edges and services are connected to this node (limits.sessions)"));
    }
    if let Some(text) = node.pressure.refusal() {
        return Err(text);
    }
    tune(socket).map_err(|error| format!("cannot set socket options: {error}"))?;
    gate.enter(remote.ip()).map_err(|full| full.to_string())
}

/// Says why and closes (PROTOCOL 9.4). Never waits: a fresh socket has room for it.
fn turn_away(node: &Node, port: Port, peer: (TcpStream, SocketAddr), text: String, tls: bool) {
    let (socket, remote) = peer;
    node.metrics.turned_away();
    if let Some(more) = node.notices.first(port, Code::LIMIT, Instant::now()) {
        warn!(port = port.name(), %remote, text, more, "turned away");
    }
    let mut said = BytesMut::new();
    if tls {
        said.extend_from_slice(&ALERT);
    } else {
        Frame::GoAway(GoAway::new(Code::LIMIT, text)).encode(&mut said);
    }
    let _ = socket.into_std().and_then(|mut socket| socket.write_all(&said));
}

/// A connection that was let in.
struct Newcomer {
    node: Arc<Node>,
    role: Role,
    remote: SocketAddr,
    place: Permit,
}

impl Newcomer {
    /// Shakes hands under TLS first.
    async fn secure(self, tls: TlsServer, socket: TcpStream) {
        let began = Instant::now();
        // Boxed: a task that goes on for long does not keep the room of its beginning.
        let handshake = Box::pin(timeout(self.node.config.limits.handshake, tls.accept(socket)));
        let result = tokio::select! {
            result = handshake => result,
            () = self.place.shed() => return self.failed(Code::LIMIT, "made room for others"),
        };
        match result {
            Ok(Ok(transport)) => self.greet(transport, began).await,
            Ok(Err(error)) => self.failed(Code::PROTOCOL, &error.to_string()),
            Err(_) => self.failed(Code::HANDSHAKE_TIMEOUT, "no TLS handshake in time"),
        }
    }

    fn failed(&self, code: Code, text: &str) {
        let port = Port::of(self.role);
        if let Some(more) = self.node.cut(port, code) {
            warn!(port = port.name(), remote = %self.remote, %code, text, more, "TLS handshake failed");
        }
    }

    /// Finds the peer's dialect by its first byte.
    async fn greet(self, mut transport: Transport, began: Instant) {
        let time = self.node.config.limits.handshake.saturating_sub(began.elapsed());
        let first = tokio::select! {
            first = timeout(time, transport.first()) => first,
            // Told below, by mail.
            () = self.place.shed() => Ok(Ok(None)),
        };
        let first = first.ok().and_then(Result::ok).flatten();
        if self.role == Role::Edge && first.is_some() && self.node.bypass.get().is_some() {
            let time = self.node.config.limits.handshake.saturating_sub(began.elapsed());
            let foreign = tokio::select! {
                foreign = passthrough::is_foreign(&mut transport, time) => foreign,
                // Told below, by mail.
                () = self.place.shed() => false,
            };
            if foreign {
                return self.pass_on(transport);
            }
        }
        self.begin(transport, began, first == Some(geminio::MAGIC[0]));
    }

    /// Gives the connection to the other gateway, in a task for which nobody waits.
    fn pass_on(self, transport: Transport) {
        let Newcomer { node, remote, mut place, .. } = self;
        place.welcomed();
        tasks::spawn(tasks::Kind::Session, async move {
            if let Some(bypass) = node.bypass.get() {
                bypass.carry(&node, transport, remote).await;
            }
            drop(place);
        });
    }

    /// Drives the connection in a task of its own. Whoever has said nothing is told so in the native
    /// dialect, which has words for it.
    fn begin(self, transport: Transport, began: Instant, is_geminio: bool) {
        let Newcomer { node, role, remote, place } = self;
        let outbox = Mailbox::new();
        place.at(&outbox);
        let limits = node.config.limits.connection();
        let connections = node.connections.clone();
        if is_geminio {
            let limits = as_before(role, limits);
            let handler = crate::session::geminio::Session::new(node, role, outbox.clone(), remote, place);
            let conn = geminio::Conn::server(began, limits);
            let driven = drive_geminio(transport, conn, handler, outbox);
            tasks::spawn(tasks::Kind::Session, connections.track_future(driven));
            return;
        }
        let handler = Session::new(node, role, outbox.clone(), remote).in_place(place);
        let conn = Conn::server(began, limits);
        tasks::spawn(tasks::Kind::Session, connections.track_future(drive(transport, conn, handler, outbox)));
    }
}

/// Limits of a client of the reference. Its dialect knows no number of streams, and one connection of a service
/// carries those of all its edges: as many as there may be calls.
fn as_before(role: Role, limits: Limits) -> Limits {
    match role {
        Role::Service => Limits { streams: limits.streams.max(CALLS_MAX), ..limits },
        _ => limits,
    }
}

/// Reads the files of a port's TLS.
///
/// # Errors
/// In one line, which port and which file.
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

    /// How many streams one such connection can be offered, up to a few more than yamux could have.
    fn offers(role: Role) -> usize {
        let now = Instant::now();
        let mut conn = geminio::Conn::server(now, as_before(role, Limits::default()));
        let hello = Body::Conn { acquire: true, heartbeat: 1, client: 0, data: ConnData::default() };
        let mut bytes = BytesMut::new();
        let body = Packet { id: 1, body: hello }.encode(&mut bytes).unwrap();
        bytes.extend_from_slice(&body);
        conn.next(now, &mut bytes).unwrap();
        conn.welcome(1);
        (0..STREAMS_MAX + 100).take_while(|_| conn.offer(now, String::new(), Bytes::new()).is_ok()).count()
    }

    #[test]
    fn an_old_service_carries_the_streams_of_more_edges_than_a_native_connection_could() {
        assert_eq!((offers(Role::Service), offers(Role::Edge)), (STREAMS_MAX + 100, STREAMS_MAX));
    }
}
