//! Clusters of members in one process, over real sockets and disks. One program, so that tests that wait for
//! elections wait at the same time.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic fails the test"
)]

mod absent;
mod agreement;
mod damage;
mod founding;
mod membership;
mod metrics;
mod proxy;
mod reads;
mod snapshots;
mod support;
