//! The ports of a node: TLS, limits, and peers that mean harm while others go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod harm;
mod limits;
mod nuisances;
mod raw;
#[path = "../support/mod.rs"]
mod support;
mod tls;
