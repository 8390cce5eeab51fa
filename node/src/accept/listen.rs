//! Binding listeners.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use tokio::net::TcpListener;

/// The pause after an accept that failed because no descriptor was free.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a listener. An address of all interfaces is bound for IPv4 alone where there is no IPv6.
///
/// # Errors
/// The address cannot be bound; the text names the listener (`what`) and the address.
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

/// The address of the interface that has the default route. Nothing is sent.
pub(crate) fn own_address() -> Option<IpAddr> {
    // Addresses reserved for documentation are reached by the default route (RFC 5737 and 3849).
    let routes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    routes.into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::address::canonical;

    #[tokio::test]
    async fn a_listener_for_all_addresses_takes_ipv4_and_reports_it_as_such() {
        let listener = bind("peers", "[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let peer = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (_, remote) = listener.accept().await.unwrap();
        assert_eq!(canonical(remote), peer.local_addr().unwrap());
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let listener = bind("peers", "[::]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = bind("peers", &format!("[::]:{port}")).await.unwrap_err().to_string();
        assert!(taken.starts_with(&format!("cannot listen for peers on [::]:{port}: ")), "{taken}");
    }
}
