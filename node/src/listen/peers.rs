//! The edge and the service port: each connection becomes a session in a task of its own.

use std::sync::Arc;
use std::time::Instant;

use limes_wire::Conn;
use limes_wire::driver::{Mailbox, drive, tune};
use limes_wire::frame::Role;
use tokio::net::TcpListener;
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
        let outbox = Mailbox::new();
        let handler = Session::new(node.clone(), role, outbox.clone(), remote);
        let conn = Conn::server(Instant::now(), node.config.limits.connection());
        task::spawn(task::Kind::Session, drive(socket, conn, handler, outbox));
    }
}
