//! Accepting connections: edges, services, other nodes, and operators.

pub(crate) mod http;
pub(crate) mod nodes;
pub(crate) mod peers;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use tokio::net::TcpListener;

/// How long to wait after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    use crate::transport::peek::plain;

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
}
