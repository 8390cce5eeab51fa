//! The figures that a member records, through handles that the node's telemetry creates.

use metrics::{Gauge, Histogram};

/// Handles of the figures that a member records. This crate names no series: the caller creates the
/// handles under its own names. Clones record to the same series; the default records nothing.
///
/// Times are in seconds, sizes in bytes.
#[derive(Clone)]
pub struct RaftMetrics {
    /// Seconds from the submission of an event to its verdict, one sample an event. Events without a
    /// verdict (no quorum, fenced, stopped) are not recorded.
    pub commit_seconds: Histogram,
    /// Seconds to apply one group of committed entries, including reading them from the log, one sample a
    /// group.
    pub apply_seconds: Histogram,
    /// Seconds of one fdatasync of the log.
    pub fsync_seconds: Histogram,
    /// Events in one proposed batch.
    pub batch_events: Histogram,
    /// Events of this node that have no answer yet: queued, or in the batch in flight.
    pub queue_depth: Gauge,
    /// Seconds to build and store one snapshot.
    pub snapshot_build_seconds: Histogram,
    /// Seconds to check, store and load one snapshot that the leader sent.
    pub snapshot_install_seconds: Histogram,
    /// Bytes of the entries that the log holds.
    pub log_bytes: Gauge,
}

impl Default for RaftMetrics {
    fn default() -> Self {
        RaftMetrics {
            commit_seconds: Histogram::noop(),
            apply_seconds: Histogram::noop(),
            fsync_seconds: Histogram::noop(),
            batch_events: Histogram::noop(),
            queue_depth: Gauge::noop(),
            snapshot_build_seconds: Histogram::noop(),
            snapshot_install_seconds: Histogram::noop(),
            log_bytes: Gauge::noop(),
        }
    }
}

impl std::fmt::Debug for RaftMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftMetrics").finish_non_exhaustive()
    }
}
