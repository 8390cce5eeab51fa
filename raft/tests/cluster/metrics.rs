//! The figures that a member records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::metrics::{Gauge, GaugeFn, Histogram, HistogramFn};

use crate::support::{Cluster, eventually, online};
use limes_raft::RaftMetrics;

/// Counts the samples of a histogram.
#[derive(Default)]
struct Samples(AtomicU64);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        assert!(value >= 0.0, "{value}");
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The value of a gauge, which counts whole things here.
#[derive(Default)]
struct Value(AtomicU64);

impl GaugeFn for Value {
    fn increment(&self, value: f64) {
        self.0.fetch_add(value as u64, Ordering::Relaxed);
    }

    fn decrement(&self, value: f64) {
        self.0.fetch_sub(value as u64, Ordering::Relaxed);
    }

    fn set(&self, value: f64) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
}

#[test]
fn member_records_its_figures() {
    let [commits, applies, syncs, batches, snapshots] = [(); 5].map(|()| Arc::new(Samples::default()));
    let [depth, bytes] = [(); 2].map(|()| Arc::new(Value::default()));
    let mut cluster = Cluster::places(1);
    cluster.metrics = RaftMetrics {
        commit_seconds: Histogram::from_arc(commits.clone()),
        apply_seconds: Histogram::from_arc(applies.clone()),
        fsync_seconds: Histogram::from_arc(syncs.clone()),
        batch_events: Histogram::from_arc(batches.clone()),
        queue_depth: Gauge::from_arc(depth.clone()),
        snapshot_build_seconds: Histogram::from_arc(snapshots.clone()),
        log_bytes: Gauge::from_arc(bytes.clone()),
        ..RaftMetrics::default()
    };
    cluster.start_places(&[0]);
    let member = cluster.at(0);
    member.wait_up();
    let before = commits.0.load(Ordering::Relaxed);
    for edge in 0..10 {
        member.submit(online(edge)).unwrap();
    }
    let replica = member.replica.clone();
    member.run(async move { replica.snapshot().await });
    eventually("the snapshot is recorded", || snapshots.0.load(Ordering::Relaxed) == 1);
    assert!(commits.0.load(Ordering::Relaxed) >= before + 10, "commits are missing");
    for (name, samples) in [("applies", &applies), ("syncs", &syncs), ("batches", &batches)] {
        assert!(samples.0.load(Ordering::Relaxed) >= 10, "{name} are missing");
    }
    eventually("no event is pending", || depth.0.load(Ordering::Relaxed) == 0);
    assert_eq!(bytes.0.load(Ordering::Relaxed), member.replica.log_bytes());
}
