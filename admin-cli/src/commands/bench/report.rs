//! The report of a run, for people and for scripts.

use serde::Serialize;

use super::bed::Bed;
use super::measure::Outcome;
use super::shape::Shape;
use crate::error::Error;
use crate::output;

/// One run. The figures of the gateway are sums over all nodes; they are missing if the nodes' processes are not
/// known.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The measured operation.
    pub(super) bench: &'static str,
    /// The side that began operations.
    pub(super) from: &'static str,
    /// The node that edges connected to.
    pub(super) edge_node: String,
    /// The node that the service connected to.
    pub(super) service_node: String,
    /// Nodes of the cluster.
    pub(super) nodes: usize,
    /// Connected edges.
    pub(super) edges: usize,
    /// Operations that ran at once.
    pub(super) in_flight: usize,
    /// Bytes of a payload or a write.
    pub(super) size: usize,
    /// Length of the counted part.
    pub(super) seconds: f64,
    /// Operations that succeeded.
    pub(super) operations: u64,
    /// Operations that failed.
    pub(super) errors: u64,
    /// Operations that succeeded, per second.
    pub(super) per_second: f64,
    /// Median latency in µs.
    pub(super) p50_us: u64,
    /// 99th percentile of the latency in µs.
    pub(super) p99_us: u64,
    /// CPU time of all nodes per operation, in µs.
    pub(super) gateway_cpu_us_per_op: Option<f64>,
    /// Megabytes (1,000,000 bytes) moved per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mb_per_second: Option<f64>,
    /// CPU time of all nodes per megabyte, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway_cpu_ms_per_mb: Option<f64>,
    /// Resident memory of all nodes per edge, in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rss_kb_per_edge: Option<f64>,
    /// The text of one of the last failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
}

impl Report {
    /// The figures that all runs have.
    pub(super) fn new(bench: &'static str, bed: &Bed, shape: &Shape, outcome: &Outcome) -> Self {
        let operations = outcome.latencies.count();
        let seconds = outcome.time.as_secs_f64();
        let per_op = |cpu: u64| (operations > 0).then(|| round(cpu as f64 / operations as f64));
        Report {
            bench,
            from: shape.from.name(),
            edge_node: bed.edge_node.name.clone(),
            service_node: bed.service_node.name.clone(),
            nodes: bed.nodes.count(),
            edges: shape.edges,
            in_flight: shape.in_flight,
            size: 0,
            seconds: round(seconds),
            operations,
            errors: outcome.errors,
            per_second: round(operations as f64 / seconds.max(f64::EPSILON)),
            p50_us: outcome.latencies.quantile(0.5),
            p99_us: outcome.latencies.quantile(0.99),
            gateway_cpu_us_per_op: outcome.cpu_us.and_then(per_op),
            mb_per_second: None,
            gateway_cpu_ms_per_mb: None,
            rss_kb_per_edge: None,
            last_error: outcome.last_error.clone(),
        }
    }

    /// Adds the figures of moved bytes.
    pub(super) fn with_bytes(mut self, outcome: &Outcome) -> Self {
        let mb = outcome.bytes as f64 / 1e6;
        self.mb_per_second = Some(round(mb / outcome.time.as_secs_f64().max(f64::EPSILON)));
        self.gateway_cpu_ms_per_mb =
            outcome.cpu_us.filter(|_| mb > 0.0).map(|cpu| round(cpu as f64 / 1e3 / mb));
        self
    }

    /// Prints one object on one line, or a table.
    pub(super) fn print(&self, json: bool) -> Result<(), Error> {
        if json { output::json(self) } else { output::table(&["FIGURE", "VALUE"], self.rows()) }
    }

    fn rows(&self) -> Vec<[String; 2]> {
        let known =
            |figure: Option<f64>| figure.map_or_else(|| "unknown (see --dir)".into(), |f| f.to_string());
        let mut rows = vec![
            ["what".to_owned(), format!("{}, begun by the {}", self.bench, self.from)],
            [
                "where".into(),
                format!(
                    "edges on {}, service on {}, of {} nodes",
                    self.edge_node, self.service_node, self.nodes
                ),
            ],
            [
                "load".into(),
                format!(
                    "{} edges, {} in flight, {} bytes, {} s",
                    self.edges, self.in_flight, self.size, self.seconds
                ),
            ],
        ];
        if self.operations > 0 {
            rows.push(["operations".into(), format!("{}, {} a second", self.operations, self.per_second)]);
            rows.push(["latency".into(), format!("{} µs (p50), {} µs (p99)", self.p50_us, self.p99_us)]);
            let cpu = known(self.gateway_cpu_us_per_op);
            rows.push(["CPU of all nodes".into(), format!("{cpu} µs an operation")]);
        }
        if let Some(rate) = self.mb_per_second {
            let cpu = known(self.gateway_cpu_ms_per_mb);
            rows.push(["bytes".into(), format!("{rate} MB/s, {cpu} ms CPU of all nodes a MB")]);
        }
        if self.bench == "idle" {
            rows.push(["memory".into(), format!("{} KiB an edge", known(self.rss_kb_per_edge))]);
        }
        rows.push(["errors".into(), self.errors.to_string()]);
        rows.extend(self.last_error.iter().map(|error| ["last error".into(), error.clone()]));
        rows
    }
}

/// Rounds to three decimals.
pub(super) fn round(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}
