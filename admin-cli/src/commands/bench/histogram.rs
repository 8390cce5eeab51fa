//! Latencies in little room: buckets that grow with the value, each within 3 % of it.

use std::time::Duration;

/// Buckets between a power of two and the next.
const PARTS: u64 = 32;
/// Up to 2^40 µs, twelve days.
const POWERS: usize = 36;

/// How many took how long.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// None yet.
    pub(super) fn new() -> Self {
        Histogram { counts: vec![0; PARTS as usize * POWERS], total: 0 }
    }

    fn bucket(us: u64) -> usize {
        if us < PARTS {
            return us as usize;
        }
        // Its highest bits: the power of two, and the five behind it.
        let power = us.ilog2() - PARTS.ilog2();
        let part = us >> power;
        (u64::from(power) * PARTS + part) as usize
    }

    fn value(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < 2 * PARTS {
            return bucket;
        }
        let (power, part) = (bucket / PARTS - 1, bucket % PARTS + PARTS);
        // The middle of what falls into it.
        (part << power) + (1 << power) / 2
    }

    /// Notes one.
    pub(super) fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let last = self.counts.len() - 1;
        self.counts[Self::bucket(us).min(last)] += 1;
        self.total += 1;
    }

    /// Adds another's.
    pub(super) fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, other)| *mine += other);
        self.total += other.total;
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.total
    }

    /// What this part of all, 0 to 1, did not exceed, in µs.
    pub(super) fn quantile(&self, part: f64) -> u64 {
        let rank = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Self::value(bucket);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_percent() {
        let mut histogram = Histogram::new();
        for us in 1..=100_000 {
            histogram.add(Duration::from_micros(us));
        }
        for (part, wanted) in [(0.0, 1.0), (0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let got = histogram.quantile(part) as f64;
            assert!((got - wanted).abs() <= wanted * 0.03, "{part}: {got} is not {wanted}");
        }
        let mut both = Histogram::new();
        both.merge(&histogram);
        both.add(Duration::MAX);
        assert_eq!(both.count(), 100_001);
        assert_eq!(Histogram::new().quantile(0.5), 0);
    }

    #[test]
    fn buckets_follow_each_other() {
        let mut last = 0;
        for us in 0..1_000_000 {
            let bucket = Histogram::bucket(us);
            assert!(bucket == last || bucket == last + 1, "{us}");
            last = bucket;
        }
    }
}
