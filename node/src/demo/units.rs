//! Limits and units that the chapters share.

use std::time::Duration;

/// The longest that any single step may take.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes in MiB.
pub(super) fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
