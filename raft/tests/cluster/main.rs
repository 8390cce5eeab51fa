//! Members of clusters in one process, over real sockets and disks; one program, so that what waits for an
//! election waits beside others.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod absent;
mod agreement;
mod damage;
mod membership;
mod proxy;
mod reads;
mod snapshots;
mod support;
