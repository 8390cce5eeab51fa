//! How the router's maps are divided, so that sessions on different cores seldom contend for a lock.

/// Shards of each map.
pub(super) const SHARDS: usize = 256;

/// The shard of a number: consecutive numbers spread over all shards (Fibonacci hashing; Knuth, TAOCP 6.4).
pub(super) fn spread(number: u64) -> usize {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % SHARDS
}
