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

/// Pauses between looks at a beginning that is too short to be understood: the socket stays readable, and cannot
/// be waited for. They double, so that many who say a byte and no more cost little.
struct Looks(Duration);

impl Looks {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(250);

    fn begin() -> Self {
        Looks(Self::FIRST)
    }

    /// The pause before the next look.
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause
    }
}

/// Binds a listener, saying which one and where if it cannot.
///
/// # Errors
/// The address is not to be had; the text names the listener and the address.
pub(crate) async fn bind(what: &str, addr: &str) -> io::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen for {what} on {addr}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_comes_soon_and_the_others_are_few() {
        let (mut looks, mut spent, mut count) = (Looks::begin(), Duration::ZERO, 0);
        assert!(Looks::begin().next() <= Duration::from_millis(10));
        while spent < limes_wire::limits::HANDSHAKE {
            spent += looks.next();
            count += 1;
        }
        assert!(count < 60, "{count} looks in a handshake's time");
    }
}
