//! Looking at the first bytes of a connection without consuming them.

use std::net::SocketAddr;
use std::time::Duration;

/// The first bytes of HTTP/2 (RFC 9113, 3.4).
pub(crate) const HTTP2: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Pauses between looks at a beginning that is too short to be understood: the socket stays readable, and cannot
/// be waited for. They double, so that many who say a byte and no more cost little.
pub(crate) struct PeekBackoff(Duration);

impl PeekBackoff {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(250);

    pub(crate) fn begin() -> Self {
        PeekBackoff(Self::FIRST)
    }

    /// The pause before the next look.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause
    }
}

/// The address of a peer: one of IPv4 as such, whatever the listener it has come to.
pub(crate) fn plain(remote: SocketAddr) -> SocketAddr {
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_comes_soon_and_the_others_are_few() {
        let (mut looks, mut spent, mut count) = (PeekBackoff::begin(), Duration::ZERO, 0);
        assert!(PeekBackoff::begin().next() <= Duration::from_millis(10));
        while spent < limes_wire::limits::HANDSHAKE {
            spent += looks.next();
            count += 1;
        }
        assert!(count < 60, "{count} looks in a handshake's time");
    }
}
