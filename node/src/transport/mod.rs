//! Connections before they become sessions: admission limits, idle eviction, protocol detection.

pub(crate) mod idle;
pub(crate) mod limiter;
pub(crate) mod passthrough;
pub(crate) mod peek;
pub(crate) mod watched;
