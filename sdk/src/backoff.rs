//! Pauses between attempts to connect.

use std::time::Duration;

/// The first pause is drawn up to this bound, which doubles from there (PROTOCOL 3.6).
const FIRST: Duration = Duration::from_millis(50);

/// Exponential back-off with full jitter (Brooker 2015): each pause is drawn between zero and a bound, which
/// doubles.
///
/// Kept our own: `backon` adds its jitter to the delay, and PROTOCOL 3.6 asks for a pause drawn from zero.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    bound: Duration,
    max: Duration,
}

impl Backoff {
    /// Starts at the shortest bound; no pause is longer than `max`.
    pub(crate) fn new(max: Duration) -> Self {
        Backoff { bound: FIRST.min(max), max }
    }

    /// The next pause, for a draw from 0 to 1.
    pub(crate) fn next(&mut self, draw: f64) -> Duration {
        let pause = self.bound.mul_f64(draw.clamp(0.0, 1.0));
        self.bound = self.bound.saturating_mul(2).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_bound_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(ms(300));
        let bounds: Vec<_> = (0..5).map(|_| backoff.next(1.0)).collect();
        assert_eq!(bounds, [ms(50), ms(100), ms(200), ms(300), ms(300)]);
    }

    #[test]
    fn pauses_are_drawn_from_zero() {
        let mut backoff = Backoff::new(ms(300));
        assert_eq!((backoff.next(0.0), backoff.next(0.5), backoff.next(0.25)), (ms(0), ms(50), ms(50)));
    }

    #[test]
    fn no_pause_is_longer_than_the_maximum() {
        assert_eq!(Backoff::new(ms(10)).next(1.0), ms(10));
    }

    #[test]
    fn the_bound_does_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX);
        for _ in 0..100 {
            backoff.next(0.5);
        }
    }
}
