//! The segment log (R9): openraft's own suite, disks that break, processes that are killed.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conformance;
mod crashes;
mod disk;
mod fragile;
