//! What a member is told at its start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
}

/// The levels that this code works at.
pub(crate) const LEVELS: Levels = Levels { min: limes_routing::LEVEL, max: limes_routing::LEVEL };
/// How long one append may take: more than a heartbeat, for it waits for a disk.
pub(crate) const APPEND_TIME: Duration = Duration::from_secs(2);
/// How long any other small question to a member may take.
pub(crate) const RPC_TIME: Duration = Duration::from_secs(1);
/// How long a connection may take to come up.
pub(crate) const CONNECT_TIME: Duration = Duration::from_millis(500);
/// How long a snapshot may travel.
pub(crate) const SNAPSHOT_TIME: Duration = Duration::from_secs(60);
/// How long a change of members may take, with all that it waits for.
pub(crate) const CHANGE_TIME: Duration = Duration::from_secs(10);
/// Log bytes since the last snapshot at which the next is due, at least.
pub(crate) const SNAPSHOT_LOG_BYTES: u64 = 64 << 20;
/// Without an answer for so long there is no quorum: longer than an election takes.
pub(crate) const NO_QUORUM_AFTER: Duration = Duration::from_millis(2_500);
/// The same, when the one before has waited that long in vain: whoever comes now is told soon.
pub(crate) const STILL_NO_QUORUM_AFTER: Duration = Duration::from_millis(250);

/// openraft's settings; its defaults differ in what is set here.
pub(crate) fn raft_config() -> Result<Arc<RaftConfig>, openraft::ConfigError> {
    let config = RaftConfig {
        cluster_name: "limes".to_owned(),
        heartbeat_interval: 100,
        election_timeout_min: 300,
        election_timeout_max: 600,
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
