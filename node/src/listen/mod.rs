//! Accepting connections: edges, services, other nodes, and operators.

mod bypass;
mod gate;
mod guests;
mod http;
mod mesh;
mod peers;
mod port;
mod watched;

pub(crate) use bypass::Bypass;
pub(crate) use gate::Place;
pub(crate) use http::serve as serve_http;
pub(crate) use mesh::serve as serve_mesh;
pub(crate) use peers::{serve as serve_peers, tls};
pub(crate) use port::Port;

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;

/// The first bytes of HTTP/2 (RFC 9113, 3.4).
const HTTP2: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a listener, saying which one and where if it cannot.
///
/// # Errors
/// The address is not to be had; the text names the listener and the address.
pub(crate) async fn bind(what: &str, addr: &str) -> io::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen for {what} on {addr}: {error}")))
}
