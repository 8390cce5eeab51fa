//! Clusters of real nodes and whoever talks to them; one program, so that what waits in one cluster waits beside
//! another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod bulk;
mod callbacks;
mod clients;
mod compat;
mod compat_rest;
mod crashes;
mod failures;
mod gates;
mod geminio;
mod isolation;
mod local_cluster;
mod support;
mod takeover;
mod traffic;
mod visible;
