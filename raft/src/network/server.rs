//! Serving the connections of other members.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::client::{MESSAGE_MAX, WINDOW};
use super::proto::raft_server::{Raft, RaftServer};
use crate::config::SNAPSHOT_TIME;

/// Concurrent requests on one connection. A member has a few on each connection; without a limit, a stranger
/// could leave any number of requests unfinished, each holding a part of a message.
const REQUESTS: u32 = 64;

/// A connection that the mesh port hands over.
pub trait Incoming: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static {}

impl<IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static> Incoming for IO {}

/// Serves the connections that the mesh port hands over, until their sender is dropped. `keep_alive` is the
/// ping interval of the peers; a connection that is silent for several of them is pinged, then closed.
pub(crate) async fn serve<IO: Incoming>(
    service: impl Raft,
    keep_alive: Duration,
    incoming: mpsc::Receiver<IO>,
) {
    let silence = keep_alive * 5;
    let server = RaftServer::new(service)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let sockets = ReceiverStream::new(incoming).map(Ok::<_, std::io::Error>);
    let builder = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(REQUESTS)
        // The longest limit of any request.
        .timeout(SNAPSHOT_TIME)
        .http2_keepalive_interval(Some(silence))
        .http2_keepalive_timeout(Some(silence));
    if let Err(error) = { builder }.add_service(server).serve_with_incoming(sockets).await {
        tracing::error!(%error, "the raft server has failed");
    }
}
