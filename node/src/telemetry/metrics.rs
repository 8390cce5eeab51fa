//! Records the metrics of a node. The handles are created once; to record is to find one in a table and to add to
//! an atomic value.

use std::cell::Cell;
use std::time::Duration;

use limes_raft::RaftMetrics;
use limes_wire::{By, CloseReason, Code};
use metrics::{Counter, Gauge, Histogram};

use super::dictionary::{self as series, Id, Series, SeriesKind};
use super::labels::{AnswerClass, ConnectPhase, Direction, Path, RequestKind, code_index};
use super::port::Port;
use super::registry::{Handle, Registry};

/// One call or message in so many has its latency recorded, because a sample costs 80 ns, or 240 ns when two
/// threads contend for the histogram, and a call about 6 µs. A prime, so that a regular mix of calls and messages
/// does not hide one sort.
const SAMPLED: u32 = 7;
/// How often samples that no scrape has collected are put into their buckets: until then each takes 16 bytes.
const UPKEEP: Duration = Duration::from_secs(1);

/// The metrics of a node; all from its start.
#[derive(Debug)]
pub(crate) struct Metrics(Registry);

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Metrics(Registry::new());
        metrics.with(series::BUILD, [0], |gauge| gauge.set(1.0));
        metrics
    }
}

/// Whether to record this latency: every `SAMPLED`th on each thread, and the first.
fn is_sampled() -> bool {
    thread_local! {
        static ENDED: Cell<u32> = const { Cell::new(0) };
    }
    ENDED.with(|ended| ended.replace((ended.get() + 1) % SAMPLED) == 0)
}

impl Metrics {
    fn with<H: Handle, const N: usize>(&self, id: Id<H, N>, values: [usize; N], record: impl FnOnce(&H)) {
        let handle = self.0.handle(&id, values);
        debug_assert!(handle.is_some(), "{values:?} are not label values of series {}", id.at);
        if let Some(handle) = handle {
            record(handle);
        }
    }

    /// Adds 1 to a counter without labels.
    pub(crate) fn increment(&self, id: Id<Counter, 0>) {
        self.add(id, 1);
    }

    /// Adds to a counter without labels.
    pub(crate) fn add(&self, id: Id<Counter, 0>, by: u64) {
        self.with(id, [], |counter| counter.increment(by));
    }

    /// Sets a gauge without labels.
    pub(crate) fn set(&self, id: Id<Gauge, 0>, value: f64) {
        self.with(id, [], |gauge| gauge.set(value));
    }

    /// A connection ended.
    pub(crate) fn closed(&self, reason: &CloseReason) {
        self.increment(series::CLOSED);
        if reason.by == By::Us {
            self.increment(series::CLOSED_BY_NODE);
        }
    }

    /// The node ended a connection whose peer broke a rule or crossed a limit.
    pub(crate) fn disconnected(&self, port: Port, code: Code) {
        self.with(series::DISCONNECTS, [port as usize, code_index(code)], |counter| counter.increment(1));
    }

    /// An edge or service that was admitted has waited so long in one phase of its connect.
    pub(crate) fn connected(&self, phase: ConnectPhase, waited: Duration) {
        self.with(series::CONNECT, [phase as usize], |histogram| histogram.record(waited.as_secs_f64()));
    }

    /// A stream ended after so many bytes.
    pub(crate) fn stream_ended(&self, bytes: u64) {
        self.increment(series::STREAMS);
        self.add(series::STREAM_BYTES, bytes);
    }

    /// A call or message of a peer of this node has ended.
    pub(crate) fn ended(&self, kind: impl Into<RequestKind>, outcome: Code) {
        let labels = [kind.into() as usize, code_index(outcome)];
        self.with(series::REQUESTS, labels, |counter| counter.increment(1));
    }

    /// A call or message of a peer of this node was answered, or its deadline has passed, after this time.
    /// Records a sample of them.
    pub(crate) fn answered(
        &self,
        kind: impl Into<RequestKind>,
        (direction, path): (Direction, Path),
        code: Code,
        took: Duration,
    ) {
        if is_sampled() {
            let id = match kind.into() {
                RequestKind::Call => series::CALLS,
                RequestKind::Message => series::ACKS,
            };
            let labels = [direction as usize, AnswerClass::of(code) as usize, path as usize];
            self.with(id, labels, |histogram| histogram.record(took.as_secs_f64()));
        }
    }

    /// The handles for the Raft member.
    pub(crate) fn raft(&self) -> RaftMetrics {
        let histogram = |id| self.0.handle(&id, []).cloned().unwrap_or_else(Histogram::noop);
        let gauge = |id| self.0.handle(&id, []).cloned().unwrap_or_else(Gauge::noop);
        RaftMetrics {
            commit_seconds: histogram(series::COMMIT),
            apply_seconds: histogram(series::APPLY),
            fsync_seconds: histogram(series::FSYNC),
            batch_events: histogram(series::BATCH_EVENTS),
            queue_depth: gauge(series::QUEUE_DEPTH),
            snapshot_build_seconds: histogram(series::SNAPSHOT_BUILD),
            snapshot_install_seconds: histogram(series::SNAPSHOT_INSTALL),
            log_bytes: gauge(series::LOG_BYTES),
        }
    }

    /// Renders all series as Prometheus text, sorted by name.
    pub(crate) fn render(&self) -> String {
        let mut text = self.0.exporter().render();
        for Series { name, kind, .. } in series::ALL {
            if matches!(kind, SeriesKind::FractionalCounter) {
                text = text.replace(&format!("# TYPE {name} gauge"), &format!("# TYPE {name} counter"));
            }
        }
        let mut families: Vec<&str> = text.split_terminator("\n\n").collect();
        families.sort_unstable();
        families.join("\n") + "\n"
    }

    /// Bounds the memory of samples that no scrape collects, for as long as the node runs.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn upkeep(&self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.exporter().run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a row of the rendered text.
    fn value(metrics: &Metrics, row: &str) -> Option<f64> {
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    #[test]
    fn disconnects_with_an_unnamed_code_count_together() {
        let metrics = Metrics::default();
        for number in [17, 99, u32::MAX] {
            metrics.disconnected(Port::Mesh, Code(number));
        }
        let row = r#"limes_connections_cut_total{port="mesh",reason="other"}"#;
        assert_eq!(value(&metrics, row), Some(3.0));
    }

    #[test]
    fn one_latency_in_seven_is_recorded_and_the_first() {
        let metrics = Metrics::default();
        let row = concat!(
            "limes_call_duration_seconds_count",
            r#"{direction="edge_to_service",result="ok",path="remote"}"#
        );
        let call = || {
            let labels = (Direction::EdgeToService, Path::Remote);
            metrics.answered(RequestKind::Call, labels, Code::OK, Duration::from_millis(2));
        };
        call();
        assert_eq!(value(&metrics, row), Some(1.0));
        (0..SAMPLED).for_each(|_| call());
        assert_eq!(value(&metrics, row), Some(2.0));
    }

    #[test]
    fn upkeep_keeps_the_counts() {
        let metrics = Metrics::default();
        for _ in 0..1_000 {
            metrics.connected(ConnectPhase::Commit, Duration::from_millis(2));
            metrics.0.exporter().run_upkeep();
        }
        let row = r#"limes_connect_duration_seconds_count{phase="commit"}"#;
        assert_eq!(value(&metrics, row), Some(1_000.0));
    }

    #[test]
    fn nodes_in_one_process_count_by_themselves() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.increment(series::ACCEPTED);
        assert_eq!(value(&one, "limes_connections_accepted_total"), Some(1.0));
        assert_eq!(value(&other, "limes_connections_accepted_total"), Some(0.0));
    }
}
