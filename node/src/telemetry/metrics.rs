//! The node's metrics: one handle for each series of the dictionary, created once; recording is atomic adds.

use std::array::from_fn;
use std::cell::Cell;
use std::time::Duration;

use limes_raft::RaftMetrics;
use limes_wire::{By, CloseReason, Code};
use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::PrometheusHandle;

use super::dictionary::{self as series, Series, SeriesKind};
use super::labels::{AnswerClass, CODES, ConnectPhase, Direction, Path, RequestKind, code_index};
use super::port::Port;
use super::process::ProcessMetrics;
use super::registry::Registry;

/// One call or message in so many has its latency recorded: a sample costs about a hundred nanoseconds.
/// A prime, so that a regular mix of calls and messages does not hide one sort.
const SAMPLED: u32 = 7;
/// How often samples that no scrape has collected are put into their buckets: until then each takes 16 bytes.
const UPKEEP: Duration = Duration::from_secs(1);

/// Counters by the code that something ended with.
type ByCode = [Counter; CODES];
/// Histograms by direction, class of the answer, and path.
type Latency = [[[Histogram; Path::NAMES.len()]; AnswerClass::NAMES.len()]; Direction::NAMES.len()];

/// The metrics of a node; all from its start.
#[derive(Debug)]
pub(crate) struct Metrics {
    exporter: PrometheusHandle,
    accepted: Counter,
    refused: Counter,
    turned_away: Counter,
    closed: Counter,
    closed_by_node: Counter,
    orphans: Counter,
    streams: Counter,
    stream_bytes: Counter,
    slow_streams: Counter,
    requests: [ByCode; RequestKind::NAMES.len()],
    disconnects: [ByCode; Port::ALL.len()],
    latency: [Latency; RequestKind::NAMES.len()],
    connect: [Histogram; ConnectPhase::NAMES.len()],
    node: NodeGauges,
    raft: RaftMetrics,
    process: ProcessMetrics,
}

/// Gauges whose values other components hold; a scrape sets them.
#[derive(Debug)]
pub(crate) struct NodeGauges {
    /// Resident memory as the memory watch measured it, in bytes.
    pub(crate) memory: Gauge,
    /// Sessions on this node.
    pub(crate) sessions: Gauge,
    /// 1 while the node is ready.
    pub(crate) ready: Gauge,
    /// Edges of the cluster.
    pub(crate) edges: Gauge,
    /// Sessions of services of the cluster.
    pub(crate) services: Gauge,
    /// 1 on the leader.
    pub(crate) leader: Gauge,
    /// The current term.
    pub(crate) term: Gauge,
    /// Index of the newest entry applied.
    pub(crate) applied: Gauge,
    /// Index of the newest entry of the log.
    pub(crate) last_log: Gauge,
    /// Members that vote.
    pub(crate) voters: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let counter = |series| registry.counter(series, []);
        let by_code = |series, row| from_fn(|code| registry.counter(series, [row, code]));
        registry.gauge(&series::BUILD).set(1.0);
        Metrics {
            exporter: registry.exporter(),
            accepted: counter(&series::ACCEPTED),
            refused: counter(&series::REFUSED),
            turned_away: counter(&series::TURNED_AWAY),
            closed: counter(&series::CLOSED),
            closed_by_node: counter(&series::CLOSED_BY_NODE),
            orphans: counter(&series::ORPHANS),
            streams: counter(&series::STREAMS),
            stream_bytes: counter(&series::STREAM_BYTES),
            slow_streams: counter(&series::SLOW_STREAMS),
            requests: from_fn(|kind| by_code(&series::REQUESTS, kind)),
            disconnects: from_fn(|port| by_code(&series::DISCONNECTS, port)),
            latency: [latency(&registry, &series::CALLS), latency(&registry, &series::ACKS)],
            connect: from_fn(|phase| registry.histogram(&series::CONNECT, [phase])),
            node: NodeGauges::new(&registry),
            raft: raft(&registry),
            process: ProcessMetrics::new(&registry),
        }
    }
}

impl NodeGauges {
    fn new(registry: &Registry) -> Self {
        NodeGauges {
            memory: registry.gauge(&series::MEMORY),
            sessions: registry.gauge(&series::SESSIONS),
            ready: registry.gauge(&series::READY),
            edges: registry.gauge(&series::EDGES),
            services: registry.gauge(&series::SERVICES),
            leader: registry.gauge(&series::LEADER),
            term: registry.gauge(&series::TERM),
            applied: registry.gauge(&series::APPLIED),
            last_log: registry.gauge(&series::LAST_LOG),
            voters: registry.gauge(&series::VOTERS),
        }
    }
}

fn latency(registry: &Registry, series: &Series) -> Latency {
    from_fn(|direction| from_fn(|class| from_fn(|path| registry.histogram(series, [direction, class, path]))))
}

fn raft(registry: &Registry) -> RaftMetrics {
    RaftMetrics {
        commit_seconds: registry.histogram(&series::COMMIT, []),
        apply_seconds: registry.histogram(&series::APPLY, []),
        fsync_seconds: registry.histogram(&series::FSYNC, []),
        batch_events: registry.histogram(&series::BATCH_EVENTS, []),
        queue_depth: registry.gauge(&series::QUEUE_DEPTH),
        snapshot_build_seconds: registry.histogram(&series::SNAPSHOT_BUILD, []),
        snapshot_install_seconds: registry.histogram(&series::SNAPSHOT_INSTALL, []),
        log_bytes: registry.gauge(&series::LOG_BYTES),
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
    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        self.accepted.increment(1);
    }

    /// An edge or service was refused after its hello.
    pub(crate) fn refused(&self) {
        self.refused.increment(1);
    }

    /// A connection was closed because there are too many.
    pub(crate) fn turned_away(&self) {
        self.turned_away.increment(1);
    }

    /// A connection ended.
    pub(crate) fn closed(&self, reason: &CloseReason) {
        self.closed.increment(1);
        if reason.by == By::Us {
            self.closed_by_node.increment(1);
        }
    }

    /// The node ended a connection whose peer broke a rule or crossed a limit.
    pub(crate) fn disconnected(&self, port: Port, code: Code) {
        self.disconnects[port as usize][code_index(code)].increment(1);
    }

    /// An edge or service that was admitted has waited so long in one phase of its connect.
    pub(crate) fn connected(&self, phase: ConnectPhase, waited: Duration) {
        self.connect[phase as usize].record(waited.as_secs_f64());
    }

    /// A row of this node had no session here, and nothing had been proposed about it.
    pub(crate) fn orphan(&self) {
        self.orphans.increment(1);
    }

    /// A stream ended after so many bytes.
    pub(crate) fn stream_ended(&self, bytes: u64) {
        self.streams.increment(1);
        self.stream_bytes.increment(bytes);
    }

    /// A stream was closed because its receiver is too slow for a sender that cannot be slowed down.
    pub(crate) fn slow_stream(&self) {
        self.slow_streams.increment(1);
    }

    /// A call or message of a peer of this node has ended.
    pub(crate) fn ended(&self, kind: impl Into<RequestKind>, outcome: Code) {
        self.requests[kind.into() as usize][code_index(outcome)].increment(1);
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
            let class = AnswerClass::of(code);
            let histograms = &self.latency[kind.into() as usize];
            histograms[direction as usize][class as usize][path as usize].record(took.as_secs_f64());
        }
    }

    /// The handles for the member.
    pub(crate) fn raft(&self) -> RaftMetrics {
        self.raft.clone()
    }

    /// The gauges that a scrape sets.
    pub(crate) fn node(&self) -> &NodeGauges {
        &self.node
    }

    /// Measures the process and renders all series as Prometheus text, sorted by name. Blocks while it reads
    /// `/proc`.
    pub(crate) fn render(&self) -> String {
        self.process.refresh();
        let mut text = self.exporter.render();
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
            self.exporter.run_upkeep();
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
            metrics.exporter.run_upkeep();
        }
        let row = r#"limes_connect_duration_seconds_count{phase="commit"}"#;
        assert_eq!(value(&metrics, row), Some(1_000.0));
    }

    #[test]
    fn nodes_in_one_process_count_by_themselves() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.accepted();
        assert_eq!(value(&one, "limes_connections_accepted_total"), Some(1.0));
        assert_eq!(value(&other, "limes_connections_accepted_total"), Some(0.0));
    }

    #[test]
    fn process_figures_are_measured_by_a_scrape() {
        let metrics = Metrics::default();
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
            assert!(value(&metrics, name).is_some_and(|value| value >= 1.0), "{name}");
        }
        assert!(metrics.render().contains("# TYPE process_cpu_seconds_total counter\n"));
    }
}
