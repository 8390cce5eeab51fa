//! Peeking at the first bytes of a connection, without consuming them.

use std::time::Duration;

/// The first bytes of HTTP/2 (RFC 9113, 3.4).
pub(crate) const HTTP2: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Back-off between peeks at an incomplete preface. A socket with unread bytes stays readable, so its readiness does not
/// tell when more arrive. The pauses double, so that many peers that send one byte and stop cost little.
pub(crate) struct PeekBackoff(Duration);

impl PeekBackoff {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(250);

    /// The back-off of a new connection.
    pub(crate) fn new() -> Self {
        PeekBackoff(Self::FIRST)
    }

    /// The pause before the next peek.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pause_is_short() {
        assert!(PeekBackoff::new().next() <= Duration::from_millis(10));
    }

    #[test]
    fn a_handshake_takes_few_peeks() {
        let (mut backoff, mut spent, mut count) = (PeekBackoff::new(), Duration::ZERO, 0);
        while spent < limes_wire::limits::HANDSHAKE {
            spent += backoff.next();
            count += 1;
        }
        assert!(count < 60, "{count} peeks within the time for a handshake");
    }
}
