//! Metrics, and log lines that a flood of peers cannot multiply.

pub(crate) mod log_limit;
pub(crate) mod metrics;
pub(crate) mod port;
