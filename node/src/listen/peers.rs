//! The edge and the service port: each connection becomes a session in a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use limes_wire::driver::{Mailbox, drive, drive_geminio, tune};
use limes_wire::frame::Role;
use limes_wire::{Conn, geminio};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::warn;

use super::ACCEPT_PAUSE;
use crate::node::Node;
use crate::session::Session;
use crate::task;

/// Accepts until the task is dropped.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener, role: Role) {
    loop {
        let (socket, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(?role, %error, "cannot accept; is the limit of open files reached?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if node.sessions.len() >= node.config.limits.sessions {
            node.metrics.turned_away();
            continue;
        }
        if let Err(error) = tune(&socket) {
            warn!(%remote, %error, "cannot set socket options");
            continue;
        }
        node.metrics.accepted(role);
        task::spawn(task::Kind::Session, greet(node.clone(), socket, role, remote));
    }
}

/// Finds out the peer's dialect by its first byte and drives its connection in it.
async fn greet(node: Arc<Node>, socket: TcpStream, role: Role, remote: SocketAddr) {
    let began = Instant::now();
    let limits = node.config.limits.connection();
    let mut first = [0];
    let peeked = timeout(limits.handshake, socket.peek(&mut first)).await;
    if let Ok(Ok(1)) = peeked
        && first[0] == geminio::MAGIC[0]
    {
        let outbox = Mailbox::new();
        let handler = crate::geminio::Session::new(node, role, outbox.clone(), remote);
        let conn = geminio::Conn::server(began, limits);
        return drive_geminio(socket, conn, handler, outbox).await;
    }
    let outbox = Mailbox::new();
    let handler = Session::new(node, role, outbox.clone(), remote);
    // Whoever has said nothing is told so in the native dialect, which has words for it.
    drive(socket, Conn::server(began, limits), handler, outbox).await;
}
