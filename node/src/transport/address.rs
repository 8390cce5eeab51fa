//! Addresses of peers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address of a peer; an IPv4 address that a dual-stack listener reports as IPv6 is converted back.
pub(crate) fn canonical(remote: SocketAddr) -> SocketAddr {
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
}

/// The addresses that one customer has: of IPv6 a whole /64.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}
