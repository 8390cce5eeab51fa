//! The segment log (R9): openraft's conformance suite, failing disks, damaged files, killed processes.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

mod conformance;
mod crashes;
mod damage;
mod disk;
mod fragile;
mod golden;
mod model;
