//! Lines about peers that break the rules, so many that a flood does not fill the log.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use limes_wire::Code;
use parking_lot::Mutex;

use crate::telemetry::port::Port;

/// At most one line of each kind in this time.
const PAUSE: Duration = Duration::from_secs(1);
/// Kinds that are told apart; codes that a peer makes up count as one of their port.
const KINDS: usize = 256;

/// When a line of each kind was last written, and how many were left out since.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter(Mutex<HashMap<(Port, Code), (Instant, u64)>>);

impl LogLimiter {
    /// Whether a line of this kind may be written now; then how many were left out before it.
    pub(crate) fn first(&self, port: Port, code: Code, now: Instant) -> Option<u64> {
        let mut known = self.0.lock();
        let is_new = !known.contains_key(&(port, code));
        let kind = (port, if known.len() >= KINDS && is_new { Code(u32::MAX) } else { code });
        match known.get_mut(&kind) {
            Some((last, left_out)) if now.saturating_duration_since(*last) < PAUSE => {
                *left_out += 1;
                None
            }
            Some((last, left_out)) => {
                *last = now;
                Some(std::mem::take(left_out))
            }
            None => {
                known.insert(kind, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_of_each_kind_and_the_rest_is_counted() {
        let (notices, start) = (LogLimiter::default(), Instant::now());
        assert_eq!(notices.first(Port::Edges, Code::PROTOCOL, start), Some(0));
        for _ in 0..1_000 {
            assert_eq!(notices.first(Port::Edges, Code::PROTOCOL, start + PAUSE / 2), None);
        }
        assert_eq!(notices.first(Port::Edges, Code::LIMIT, start + PAUSE / 2), Some(0));
        assert_eq!(
            notices.first(Port::Mesh, Code::PROTOCOL, start + PAUSE / 2),
            Some(0),
            "each port by itself"
        );
        assert_eq!(notices.first(Port::Edges, Code::PROTOCOL, start + PAUSE), Some(1_000));
        for code in 0..10_000 {
            notices.first(Port::Edges, Code(code), start);
        }
        assert!(notices.0.lock().len() <= KINDS + Port::ALL.len());
    }
}
