//! Clusters of members in one process, and conditions to wait for.

mod cluster;
mod files;
mod member;
mod permit;

use std::sync::Once;
use std::time::{Duration, Instant};

use limes_raft::Timing;
use limes_routing::{EdgeId, Event, Incarnation, Position, SessionNo};

pub use cluster::Cluster;
pub use files::{copy, damage_log, files, flip};
pub use member::{Running, Seen, Starting};

/// The limit of every wait: ten times what it takes on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Patient timers: on a busy machine a process or a disk may stall for a second, and these tests are not about
/// the time until an election.
pub const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(250),
    election_min: Duration::from_millis(1_500),
    election_max: Duration::from_millis(3_000),
};

/// Faster timers, for tests that wait for elections. An election that fails costs time, nothing else.
pub const BRISK: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(500),
    election_max: Duration::from_millis(1_000),
};

/// Runs tests concurrently, each on a thread of its name. They mostly wait, and on a small machine the test
/// runner has only two threads.
pub fn concurrently(tests: &[(&'static str, fn())]) {
    let threads: Vec<_> = tests
        .iter()
        .map(|(name, test)| std::thread::Builder::new().name((*name).to_owned()).spawn(*test).unwrap())
        .collect();
    let ended: Vec<bool> = threads.into_iter().map(|thread| thread.join().is_ok()).collect();
    let failed = tests.iter().zip(ended).filter(|(_, passed)| !passed).map(|((name, _), _)| *name);
    assert_eq!(
        failed.collect::<Vec<_>>(),
        Vec::<&str>::new(),
        "these tests failed; their messages are above"
    );
}

/// Names tests for [`concurrently`].
macro_rules! tests {
    ($($test:ident)*) => { &[$((stringify!($test), $test as fn())),*] };
}
pub(crate) use tests;

/// Writes the log that `RUST_LOG` selects; none without it.
fn log_to_stderr() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    });
}

/// Waits for a condition.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An edge comes online; its session has the same number.
pub fn online(edge: u64) -> Event {
    Event::EdgeOnline {
        edge: EdgeId(edge),
        session: SessionNo(edge),
        meta: bytes::Bytes::from_static(b"meta"),
        addr: "127.0.0.1:1".into(),
        moving: false,
        owes_offline: false,
    }
}

pub fn offline(edge: u64, at: Position) -> Event {
    Event::EdgeOffline { edge: EdgeId(edge), incarnation: Incarnation(at) }
}
