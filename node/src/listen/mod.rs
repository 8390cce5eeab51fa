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
#[cfg(test)]
pub(crate) use gate::Gate;
pub(crate) use gate::Place;
pub(crate) use http::serve as serve_http;
pub(crate) use mesh::serve as serve_mesh;
pub(crate) use peers::{serve as serve_peers, tls};
pub(crate) use port::Port;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
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

/// Binds a listener, saying which one and where if it cannot. Every address is that of IPv4 where there is no
/// IPv6.
///
/// # Errors
/// The address is not to be had; the text names the listener and the address.
pub(crate) async fn bind(what: &str, addr: &str) -> io::Result<TcpListener> {
    let bound = match (TcpListener::bind(addr).await, addr.strip_prefix("[::]:")) {
        (Err(error), Some(port)) if error.kind() != ErrorKind::AddrInUse => {
            let other = TcpListener::bind(format!("0.0.0.0:{port}")).await;
            other.map_err(|_| error)
        }
        (bound, _) => bound,
    };
    bound
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen for {what} on {addr}: {error}")))
}

/// The address of a peer: one of IPv4 as such, whatever the listener it has come to.
fn plain(remote: SocketAddr) -> SocketAddr {
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
}

/// The address under which this machine reaches others: that of the way by which most would come here. Nothing
/// is sent.
pub(crate) fn own_address() -> Option<IpAddr> {
    // Addresses of documentation, so that they are the way to everywhere (RFC 5737 and 3849).
    let ways = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    ways.into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_is_that_of_ipv4_too_and_shows_as_such() {
        let listener = bind("peers", "[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (_, remote) = listener.accept().await.unwrap();
        assert_eq!(plain(remote), peer.local_addr().unwrap());
        let taken = bind("peers", &format!("[::]:{port}")).await.unwrap_err().to_string();
        assert!(taken.starts_with(&format!("cannot listen for peers on [::]:{port}: ")), "{taken}");
    }

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
