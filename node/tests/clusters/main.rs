//! Clusters of real nodes and their clients. One program for all tests, so that the waits of one test overlap
//! with those of others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod bulk;
mod callbacks;
mod clients;
mod compat;
mod compat_rest;
mod crashes;
mod failures;
mod geminio;
mod isolation;
mod local_cluster;
mod metrics;
mod ports;
mod support;
mod takeover;
mod traffic;
mod visible;
