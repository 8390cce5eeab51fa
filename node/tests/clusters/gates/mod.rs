//! The ports of a node: TLS, limits, and peers that mean harm while others go on.

mod harm;
mod limits;
mod nuisances;
mod raw;
mod tls;
