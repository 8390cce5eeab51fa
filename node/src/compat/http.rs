//! Connections of HTTP/1.1 and HTTP/2 on one port, told apart by their first bytes.

use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::task;

/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 1_024;
/// Requests at once on a connection of HTTP/2.
const REQUESTS: u32 = 128;
/// How long a connection may take to say its first byte, and one of HTTP/1.1 its next request.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a connection of HTTP/2 is asked whether it lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);
/// How long to wait after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the task is dropped.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let router = router.clone();
                task::spawn(task::Kind::Control, async move {
                    connection(socket, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept operators; is the limit of open files reached?");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, router: Router) {
    let _ = socket.set_nodelay(true);
    if !matches!(timeout(SILENCE, socket.readable()).await, Ok(Ok(()))) {
        return debug!("a connection said nothing; closed");
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(SILENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(REQUESTS);
    let service = TowerToHyperService::new(router);
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), service).await {
        debug!(%error, "a connection of an operator broke");
    }
}
