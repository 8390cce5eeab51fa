//! Connections before they become sessions: admission limits, idle eviction, protocol detection, passthrough.

pub(crate) mod address;
pub(crate) mod connection_limiter;
pub(crate) mod evictable_socket;
mod handshake;
pub(crate) mod idle_eviction;
pub(crate) mod passthrough;
pub(crate) mod peek;
pub(crate) mod permit;
