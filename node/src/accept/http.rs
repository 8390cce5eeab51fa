//! The ports of operators: HTTP/1.1 and HTTP/2 on each, distinguished by their first bytes.
//!
//! The timeout of a request is our own rather than `tower_http`'s: that answers without a body, and knows nothing of the
//! activity that idle eviction counts.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use limes_wire::Code;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use super::listen::ACCEPT_PAUSE;
use crate::limits::descriptors::DescriptorBudget;
use crate::tasks::{Kind, Tasks};
use crate::telemetry::Telemetry;
use crate::telemetry::port::Port;
use crate::transport::address::canonical;
use crate::transport::evictable_socket::EvictableSocket;
use crate::transport::idle_eviction::{Activity, Admission, IdleEviction};
use crate::transport::peek::HTTP2;

/// Concurrent requests on a connection of HTTP/2.
const REQUESTS: u32 = 128;
/// Largest head of a request, in bytes.
const HEAD: usize = 32 << 10;
/// How long a request may take until its answer begins, and a connection of HTTP/1.1 to its next one.
const REQUEST: Duration = Duration::from_secs(60);
/// How often a connection of HTTP/2 is pinged, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);

/// Serves HTTP on the ports of operators.
pub(crate) struct HttpServer {
    /// The tasks of connections, which end when the node stops.
    pub(crate) tasks: Tasks,
    /// `limits.handshake`: until the first request.
    pub(crate) handshake: Duration,
    /// `limits.stall`.
    pub(crate) stall: Duration,
    /// Bounds the connections of each port.
    pub(crate) descriptors: Arc<DescriptorBudget>,
    /// Metrics and the log limiter.
    pub(crate) telemetry: Arc<Telemetry>,
}

impl HttpServer {
    /// Accepts until the task is dropped.
    pub(crate) async fn serve(self: Arc<Self>, port: Port, listener: TcpListener, router: Router) {
        // 1,024 as a rule; past it an idle connection is evicted.
        let idle = IdleEviction::new(self.descriptors.part());
        loop {
            match listener.accept().await {
                Ok((socket, remote)) => {
                    let client = Client { server: self.clone(), port, remote: canonical(remote) };
                    let work = client.serve(socket, idle.admit(), router.clone());
                    self.tasks.spawn_connection(Kind::Operator, work);
                }
                Err(error) => {
                    warn!(port = port.name(), %error, "cannot accept; is the limit of open files reached?");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// The client at the other end of a connection.
struct Client {
    server: Arc<HttpServer>,
    port: Port,
    remote: SocketAddr,
}

impl Client {
    async fn serve(self, socket: TcpStream, admission: Admission, router: Router) {
        let _ = socket.set_nodelay(true);
        let activity = admission.activity().clone();
        // Clients of HTTP/2 connect before they make a request; they are pinged.
        let socket = EvictableSocket::new(socket, admission, self.server.stall).with_preface(HTTP2);
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(REQUEST).max_buf_size(HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_header_list_size(HEAD as u32)
            .max_concurrent_streams(REQUESTS);
        let service = TowerToHyperService::new(RequestService { router, activity: activity.clone() });
        let serving = builder.serve_connection(TokioIo::new(socket), service);
        tokio::pin!(serving);
        let result = tokio::select! {
            result = serving.as_mut() => result,
            () = sleep(self.server.handshake) => {
                if !activity.has_asked() {
                    return self.disconnect(Code::HANDSHAKE_TIMEOUT, "no request in time");
                }
                serving.await
            }
        };
        if let Err(error) = result {
            match fault(&*error, &activity) {
                Some(code) => self.disconnect(code, &chain(&*error)),
                None => debug!(port = self.port.name(), %error, "a connection of an operator broke"),
            }
        }
    }

    fn disconnect(&self, code: Code, text: &str) {
        if let Some(more) = self.server.telemetry.disconnected(self.port, code) {
            warn!(port = self.port.name(), remote = %self.remote, %code, text, more, "disconnected");
        }
    }
}

/// The code of the rule that the client has broken; `None`: the connection broke.
fn fault(error: &(dyn Error + 'static), activity: &Activity) -> Option<Code> {
    let mut cause = Some(error);
    let mut http = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let limit = matches!(error.kind(), io::ErrorKind::QuotaExceeded | io::ErrorKind::TimedOut);
            return limit.then_some(Code::LIMIT);
        }
        http = http.or_else(|| error.downcast_ref::<hyper::Error>());
        cause = error.source();
    }
    let http = http?;
    if http.is_timeout() {
        return (!activity.has_asked()).then_some(Code::HANDSHAKE_TIMEOUT);
    }
    let is_gone = http.is_incomplete_message() || http.is_closed() || http.is_canceled();
    (!is_gone).then_some(Code::PROTOCOL)
}

/// The text of an error and of its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Answers the requests of one connection, and marks it as busy meanwhile.
#[derive(Clone)]
struct RequestService {
    router: Router,
    activity: Arc<Activity>,
}

impl<B> Service<axum::http::Request<B>> for RequestService
where
    B: axum::body::HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<B>) -> Self::Future {
        let (router, active) = (self.router.clone(), self.activity.begin_request());
        let request: Request = request.map(axum::body::Body::new);
        Box::pin(async move {
            let answer = timeout(REQUEST, router.oneshot(request)).await;
            drop(active);
            answer
                .unwrap_or_else(|_| Ok((StatusCode::REQUEST_TIMEOUT, "no answer in time\n").into_response()))
        })
    }
}
