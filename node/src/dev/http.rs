//! A GET request over plain HTTP, for asking a node about its state.

use std::error::Error;
use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

/// Longest body that is read, in bytes.
const BODY_MAX: usize = 4 << 20;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body; invalid UTF-8 is replaced.
    pub body: String,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address or path cannot be part of a URI.
    #[error("invalid address or path: {0}")]
    Uri(#[from] axum::http::Error),
    /// No connection, or the peer does not speak HTTP.
    #[error("no HTTP answer: {0}")]
    Exchange(#[from] hyper_util::client::legacy::Error),
    /// The body broke off, or is longer than 4 MiB.
    #[error("cannot read the body: {0}")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    /// The time is over.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
}

/// Requests `path` from `addr`, as `127.0.0.1:9091`, over a connection of its own.
///
/// # Errors
/// [`HttpError`]. A status other than 200 is an answer.
///
/// # Cancel safety
/// Dropping the future closes the connection; the server may have handled the request.
pub async fn get(addr: &str, path: &str, within: Duration) -> Result<Response, HttpError> {
    timeout(within, exchange(addr, path)).await.map_err(|_| HttpError::TimedOut(within))?
}

async fn exchange(addr: &str, path: &str) -> Result<Response, HttpError> {
    // A pooled connection could be one to an earlier process of the node.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let request = Request::get(format!("http://{addr}{path}")).body(Empty::<Bytes>::new())?;
    let (head, body) = client.request(request).await?.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(HttpError::Body)?.to_bytes();
    Ok(Response { status: head.status.as_u16(), body: String::from_utf8_lossy(&body).into_owned() })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Time that no test here should need.
    const LONG: Duration = Duration::from_secs(20);

    /// Answers one connection with these bytes.
    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer.as_bytes()).await;
        });
        addr
    }

    #[tokio::test]
    async fn answer_has_status_and_body() {
        let addr = server("HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nno leader").await;
        let answer = get(&addr, "/readyz", LONG).await.unwrap();
        assert_eq!(answer, Response { status: 503, body: "no leader".into() });
    }

    #[tokio::test]
    async fn peer_of_another_protocol_is_an_error() {
        let addr = server("LIMES").await;
        assert!(matches!(get(&addr, "/", LONG).await, Err(HttpError::Exchange(_))));
    }

    #[tokio::test]
    async fn silent_peer_times_out() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = silent.local_addr().unwrap().to_string();
        let answer = get(&addr, "/", Duration::from_millis(50)).await;
        assert!(matches!(answer, Err(HttpError::TimedOut(_))), "{answer:?}");
    }
}
