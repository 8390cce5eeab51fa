//! The settings of a member.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use limes_routing::{Levels, NodeAddrs};
use openraft::{Config as RaftConfig, SnapshotPolicy};

use crate::metrics::RaftMetrics;

/// A founder: its name and the address of its mesh port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddr {
    /// The node's name.
    pub name: String,
    /// The address of its mesh port.
    pub addr: String,
}

/// The settings of a member.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory: log, votes, snapshots and identity.
    pub dir: PathBuf,
    /// This node's name.
    pub name: String,
    /// The addresses that this node advertises.
    pub addrs: NodeAddrs,
    /// The founders: the same list in the same order on every node.
    pub initial: Vec<PeerAddr>,
    /// The timers of Raft: the same on every node.
    pub timing: Timing,
    /// Where the member records its figures.
    pub metrics: RaftMetrics,
}

impl Config {
    /// Whether `initial` names no other node: then this node has no peer to join.
    pub(crate) fn is_alone(&self) -> bool {
        self.initial.iter().all(|peer| peer.name == self.name)
    }
}

/// How soon a member counts a silent member as failed. All other limits that wait for a leader or a quorum
/// are derived from these, so that a cluster on slow disks or links is made patient in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The interval of the leader's heartbeats.
    pub heartbeat: Duration,
    /// The shortest silence after which a follower starts an election.
    pub election_min: Duration,
    /// The longest such silence; also the length of a leader's lease.
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
    /// The time without an answer after which a request fails for lack of a quorum. It is longer than an
    /// election: the lease, a random timeout, and twice the longest timeout if the candidate has seen a
    /// longer log.
    pub fn no_quorum_after(&self) -> Duration {
        self.election_max * 4 + Duration::from_millis(100)
    }

    /// The same for a request that follows one which failed for lack of a quorum.
    pub(crate) fn still_no_quorum_after(&self) -> Duration {
        self.election_max / 2
    }

    /// The limit of one append, which waits for a disk.
    pub(crate) fn append(&self) -> Duration {
        APPEND_MIN.max(self.election_max * 2)
    }

    /// The limit of any other small request to a member.
    pub(crate) fn rpc(&self) -> Duration {
        RPC_MIN.max(self.election_max)
    }

    /// The interval of keep-alive pings on a connection, and the time after which an unanswered ping closes
    /// it. Raft's heartbeats do not detect a dead connection: each of them only times out.
    pub(crate) fn keep_alive(&self) -> Duration {
        self.rpc()
    }

    /// The limit of a membership change, with everything that it waits for.
    pub(crate) fn change(&self) -> Duration {
        CHANGE_MIN.max(self.no_quorum_after() + self.rpc())
    }
}

/// The levels of the replicated rules that this version supports.
pub(crate) const LEVELS: Levels = Levels { min: limes_routing::LEVEL, max: limes_routing::LEVEL };
/// The least [`Timing::append`].
const APPEND_MIN: Duration = Duration::from_secs(2);
/// The least [`Timing::rpc`].
const RPC_MIN: Duration = Duration::from_secs(1);
/// The least [`Timing::change`].
const CHANGE_MIN: Duration = Duration::from_secs(10);
/// The limit of setting up a connection.
pub(crate) const CONNECT_TIME: Duration = Duration::from_millis(500);
/// The limit of sending a snapshot.
pub(crate) const SNAPSHOT_TIME: Duration = Duration::from_secs(60);
/// The least number of log bytes since the last snapshot at which the next is due.
pub(crate) const SNAPSHOT_LOG_BYTES: u64 = 64 << 20;

/// openraft's configuration; everything that is not set here has openraft's default.
///
/// # Errors
/// The timers contradict each other.
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
