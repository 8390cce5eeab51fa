//! What a run has come to, for people and for scripts.

use std::time::Duration;

use serde::Serialize;

use super::Shape;
use super::measure::Outcome;
use crate::client::Error;
use crate::output;

/// One run. Figures of the gateway are of all nodes together, and missing where its processes are not known.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What was measured.
    pub(super) bench: &'static str,
    /// Who began.
    pub(super) from: &'static str,
    /// Where.
    pub(super) edge_node: String,
    pub(super) service_node: String,
    pub(super) nodes: usize,
    pub(super) edges: usize,
    pub(super) in_flight: usize,
    /// Bytes of a payload or a write.
    pub(super) size: usize,
    pub(super) seconds: f64,
    pub(super) operations: u64,
    pub(super) errors: u64,
    pub(super) per_second: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) gateway_cpu_us_per_op: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mb_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway_cpu_ms_per_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rss_kb_per_edge: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_error: Option<String>,
}

impl Report {
    /// The part that all benches have.
    pub(super) fn new(bench: &'static str, bed: &super::Bed, shape: &Shape, outcome: &Outcome) -> Self {
        let operations = outcome.took.count();
        let seconds = outcome.time.as_secs_f64();
        let per_op = |cpu: u64| (operations > 0).then(|| round(cpu as f64 / operations as f64));
        Report {
            bench,
            from: shape.from.name(),
            edge_node: bed.edges_at.name.clone(),
            service_node: bed.service_at.name.clone(),
            nodes: bed.nodes.count(),
            edges: shape.edges,
            in_flight: shape.in_flight,
            size: 0,
            seconds: round(seconds),
            operations,
            errors: outcome.errors,
            per_second: round(operations as f64 / seconds.max(f64::EPSILON)),
            p50_us: outcome.took.quantile(0.5),
            p99_us: outcome.took.quantile(0.99),
            gateway_cpu_us_per_op: outcome.cpu_us.and_then(per_op),
            mb_per_second: None,
            gateway_cpu_ms_per_mb: None,
            rss_kb_per_edge: None,
            last_error: outcome.last_error.clone(),
        }
    }

    /// The figures of moved bytes; a MB is 1,000,000 of them.
    pub(super) fn with_bytes(mut self, outcome: &Outcome) -> Self {
        let mb = outcome.bytes as f64 / 1e6;
        self.mb_per_second = Some(round(mb / outcome.time.as_secs_f64().max(f64::EPSILON)));
        self.gateway_cpu_ms_per_mb =
            outcome.cpu_us.filter(|_| mb > 0.0).map(|cpu| round(cpu as f64 / 1e3 / mb));
        self
    }

    /// One object on one line, or a table.
    pub(super) fn print(&self, json: bool) -> Result<(), Error> {
        if json {
            return output::json(self);
        }
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
            rows.push([
                "gateway's CPU".into(),
                format!("{} µs an operation", known(self.gateway_cpu_us_per_op)),
            ]);
        }
        if let Some(rate) = self.mb_per_second {
            let cpu = known(self.gateway_cpu_ms_per_mb);
            rows.push(["bytes".into(), format!("{rate} MB/s, {cpu} ms of the gateway's CPU a MB")]);
        }
        if self.bench == "idle" {
            rows.push(["memory".into(), format!("{} KiB an edge", known(self.rss_kb_per_edge))]);
        }
        rows.push(["errors".into(), self.errors.to_string()]);
        rows.extend(self.last_error.iter().map(|error| ["last error".into(), error.clone()]));
        output::table(&["FIGURE", "VALUE"], rows)
    }
}

/// Three digits behind the point say enough.
pub(super) fn round(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

/// An outcome of nothing but time.
pub(super) fn nothing(time: Duration) -> Outcome {
    Outcome {
        took: super::histogram::Histogram::new(),
        errors: 0,
        last_error: None,
        bytes: 0,
        time,
        cpu_us: None,
    }
}
