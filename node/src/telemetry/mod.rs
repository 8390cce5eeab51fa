//! Metrics, and log lines that a flood of peers cannot multiply.

pub(crate) mod dictionary;
#[cfg(test)]
mod document;
pub(crate) mod labels;
pub(crate) mod log_limit;
pub(crate) mod metrics;
pub(crate) mod port;
pub(crate) mod process;
mod registry;

use std::time::Instant;

use limes_wire::Code;

use log_limit::LogLimiter;
use metrics::Metrics;
use port::Port;

/// What a component needs to make itself observed.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    /// The node's metrics.
    pub(crate) metrics: Metrics,
    /// Limits the log lines about peers that break rules.
    pub(crate) log: LogLimiter,
}

impl Telemetry {
    /// Counts a connection that the node disconnects because its peer broke a rule or crossed a limit. If a log
    /// line may be written now, returns how many of its kind were left out before.
    pub(crate) fn disconnected(&self, port: Port, code: Code) -> Option<u64> {
        self.metrics.disconnected(port, code);
        self.log.first(port, code, Instant::now())
    }
}
