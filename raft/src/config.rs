//! What a member is told at its start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::RaftMetrics;
use limes_routing::{Levels, NodeAddrs};
use openraft::{Config as RaftConfig, SnapshotPolicy};

/// A founder, by its name and mesh address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddr {
    /// Its name.
    pub name: String,
    /// Where its mesh port is.
    pub addr: String,
}

/// What a member is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where log, votes, snapshots and identity are.
    pub dir: PathBuf,
    /// This member's name.
    pub name: String,
    /// Where it is reached, as advertised.
    pub addrs: NodeAddrs,
    /// The founders, the same list in the same order on every node.
    pub initial: Vec<PeerAddr>,
    /// How soon silence is noticed, the same on every node.
    pub timing: Timing,
    /// Where figures are recorded.
    pub metrics: RaftMetrics,
}

/// How soon members notice each other's silence. All else that waits for a leader or a quorum is
/// derived from it, so that a cluster on slow disks or links is made patient in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader makes itself heard.
    pub heartbeat: Duration,
    /// The shortest silence after which a follower stands for election.
    pub election_min: Duration,
    /// The longest such silence; also how long a leader's lease lasts.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(300),
            election_max: Duration::from_millis(600),
        }
    }
}

impl Timing {
    /// Without an answer for so long there is no quorum: longer than an election takes, which is the
    /// lease, a random timeout, and twice the longest one if the candidate has seen a longer log.
    pub fn no_quorum_after(&self) -> Duration {
        self.election_max * 4 + Duration::from_millis(100)
    }

    /// The same, when the one before has waited that long in vain: whoever comes now is told soon.
    pub(crate) fn still_no_quorum_after(&self) -> Duration {
        self.election_max / 2
    }

    /// How long one append may take: more than a heartbeat, for it waits for a disk.
    pub(crate) fn append(&self) -> Duration {
        APPEND_MIN.max(self.election_max * 2)
    }

    /// How long any other small question to a member may take.
    pub(crate) fn rpc(&self) -> Duration {
        RPC_MIN.max(self.election_max)
    }

    /// A connection is asked for a sign of life so often, and given up after as long again. Raft's
    /// own heartbeats do not find out that a connection is dead: each is merely late.
    pub(crate) fn alive(&self) -> Duration {
        self.rpc()
    }

    /// How long a change of members may take, with all that it waits for.
    pub(crate) fn change(&self) -> Duration {
        CHANGE_MIN.max(self.no_quorum_after() + self.rpc())
    }
}

/// The levels that this code works at.
pub(crate) const LEVELS: Levels = Levels { min: limes_routing::LEVEL, max: limes_routing::LEVEL };
/// What [`Timing::append`] is at least.
const APPEND_MIN: Duration = Duration::from_secs(2);
/// What [`Timing::rpc`] is at least.
const RPC_MIN: Duration = Duration::from_secs(1);
/// What [`Timing::change`] is at least.
const CHANGE_MIN: Duration = Duration::from_secs(10);
/// How long a connection may take to come up.
pub(crate) const CONNECT_TIME: Duration = Duration::from_millis(500);
/// How long a snapshot may travel.
pub(crate) const SNAPSHOT_TIME: Duration = Duration::from_secs(60);
/// Log bytes since the last snapshot at which the next is due, at least.
pub(crate) const SNAPSHOT_LOG_BYTES: u64 = 64 << 20;

/// openraft's settings; its defaults differ in what is set here.
pub(crate) fn raft_config(timing: Timing) -> Result<Arc<RaftConfig>, openraft::ConfigError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = RaftConfig {
        cluster_name: "limes".to_owned(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        max_payload_entries: 256,
        install_snapshot_timeout: 60_000,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 1_000,
        purge_batch_size: 256,
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        ..RaftConfig::default()
    };
    Ok(Arc::new(config.validate()?))
}
