//! The histogram of latencies.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Decimal digits that a latency keeps: it is reported within 1 %.
const DIGITS: u8 = 2;
/// Largest latency that a histogram represents, in µs: twelve days. With [`DIGITS`] it takes 34 KiB.
const LONGEST: u64 = 1 << 40;

/// Latencies in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    /// An empty histogram.
    #[allow(clippy::expect_used, reason = "both arguments are valid constants")]
    pub(super) fn new() -> Self {
        Latencies(Histogram::new_with_max(LONGEST, DIGITS).expect("valid bounds"))
    }

    /// Adds one latency.
    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all latencies of another histogram.
    pub(super) fn merge(&mut self, other: &Latencies) {
        // Fails only for histograms of different bounds.
        let merged = self.0.add(&other.0);
        debug_assert!(merged.is_ok(), "{merged:?}");
    }

    /// How many latencies were added.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency in µs that this share of all, 0 to 1, did not exceed; 0 if there are none.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut latencies = Latencies::new();
        for us in 1..=100_000 {
            latencies.record(Duration::from_micros(us));
        }
        for (share, wanted) in [(0.0, 1.0), (0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let got = latencies.quantile(share) as f64;
            assert!((got - wanted).abs() <= wanted * 0.01, "quantile {share} is {got}, not {wanted}");
        }
    }

    #[test]
    fn merging_keeps_all_latencies_and_takes_the_longest_ones() {
        let mut one = Latencies::new();
        one.record(Duration::from_micros(7));
        let mut both = Latencies::new();
        both.merge(&one);
        both.record(Duration::MAX);
        both.merge(&both.clone());
        assert_eq!((both.count(), both.quantile(0.5)), (4, 7));
        assert!(both.quantile(1.0) >= LONGEST);
    }

    #[test]
    fn an_empty_histogram_has_quantile_zero() {
        assert_eq!(Latencies::new().quantile(0.5), 0);
    }
}
