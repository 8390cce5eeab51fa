//! Disaster recovery: a cluster of one out of what a member still has, when most of the other members are lost
//! for good.
//!
//! No check can tell whether the lost members had acknowledged more than this one has. That is what the quorum
//! was for, so a person must ask for the recovery. The tables go on (settings, assigned ids, keys of tickets)
//! under a new cluster id. So a directory of the old cluster that turns up later is refused, instead of
//! forming a quorum of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use limes_routing::{Batch, DecodeError, NodeId, Revision, Tables};
use openraft::RaftLogReader;
use openraft::entry::EntryPayload;
use openraft::storage::RaftLogStorage;
use rand::RngCore;

use crate::config::Config;
use crate::storage::data_dir::{self, DataDir};
use crate::storage::identity::{self, Identity};
use crate::storage::log::{OpenError, SegmentLog};
use crate::storage::{quarantine, snapshot};
use crate::types::{LogId, Membership, Node, SnapshotMeta, StoredMembership, Vote};

/// The result of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The new cluster's id, in hexadecimal.
    pub cluster: String,
    /// The newest entry that was recovered.
    pub revision: Revision,
    /// Where the directory is kept as it was.
    pub kept: PathBuf,
}

/// Why a directory cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is no data.
    #[error("{} holds no member's data", .0.display())]
    NoData(PathBuf),
    /// The data is damaged, or was written by another version.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// There is no identity.
    #[error("there is no identity")]
    NoIdentity,
    /// The cluster was never made, so there is nothing to recover.
    #[error("its cluster was never made: start it with an empty directory")]
    NeverMade,
    /// The directory belongs to another member.
    #[error("{} is the data of {owner}, not of {me}: recover it there", dir.display())]
    WrongMember {
        /// The directory.
        dir: PathBuf,
        /// The member that it belongs to.
        owner: String,
        /// This node's name.
        me: String,
    },
    /// The log has a gap.
    #[error("entry {0} of the log is missing")]
    MissingEntry(u64),
    /// An entry cannot be decoded.
    #[error("{0}")]
    Decode(DecodeError),
    /// openraft refuses the new membership.
    #[error("{0}")]
    Membership(String),
}

/// Makes a member's directory the beginning of a new cluster, in which the member is alone until others join.
/// The member must not run. The directory as it was is kept beside the new one, or in it where it cannot be
/// renamed.
///
/// # Errors
/// [`RecoverError`]: there is no data, it is damaged or another node's, or the disk failed. Then nothing has
/// changed, or the message says where everything is.
///
/// # Cancel safety
/// Not safe between the first rename and the last.
pub async fn recover(config: &Config) -> Result<Recovered, RecoverError> {
    if !config.dir.join("identity").exists() {
        return Err(RecoverError::NoData(config.dir.clone()));
    }
    // A symbolic link stays a link: the directory that it points to is replaced.
    let dir = &std::fs::canonicalize(&config.dir)?;
    let data = data_dir::open(dir, &config.metrics).await?;
    let old = data.identity.ok_or(RecoverError::NoIdentity)?;
    let (mut tables, last) = replay(data).await?;
    let last = last.filter(|_| tables.cluster().is_some()).ok_or(RecoverError::NeverMade)?;
    let node = NodeId(old.node);
    if let Some(owner) = tables.members().find(|row| row.node == node && row.name != config.name) {
        let (owner, me) = (owner.name.clone(), config.name.clone());
        return Err(RecoverError::WrongMember { dir: dir.clone(), owner, me });
    }
    let mut cluster = [0; 16];
    rand::rng().fill_bytes(&mut cluster);
    tables.adopt(cluster);
    let fresh = scopeguard::guard(quarantine::make_replacement(dir)?, |fresh| {
        let _ = std::fs::remove_dir_all(fresh);
    });
    let identity = Identity { cluster, boots: 0, salt: 0, ..old };
    write(config, &fresh, identity, &tables, last).await?;
    let fresh = scopeguard::ScopeGuard::into_inner(fresh);
    let kept = quarantine::swap(dir, &fresh)?;
    Ok(Recovered { cluster: hex::encode(cluster), revision: Revision(last.index), kept })
}

/// The tables at the end of the log, committed or not: every acknowledged entry that this member has is in it.
async fn replay(data: DataDir) -> Result<(Tables, Option<LogId>), RecoverError> {
    let DataDir { mut log, snapshot, .. } = data;
    let (mut tables, mut last) = match snapshot {
        Some((meta, tables)) => (tables, meta.last_log_id),
        None => (Tables::new(), None),
    };
    let end = log.get_log_state().await?.last_log_id;
    while let Some(end) = end.filter(|end| Some(*end) > last) {
        let next = last.map_or(0, |last| last.index + 1);
        let entries = log.limited_get_log_entries(next, end.index + 1).await?;
        if entries.is_empty() {
            return Err(RecoverError::MissingEntry(next));
        }
        for entry in entries {
            if let EntryPayload::Normal(data) = entry.payload {
                let batch = Batch::decode(data.0).map_err(RecoverError::Decode)?;
                tables.apply(Revision(entry.log_id.index), &batch);
            }
            last = Some(entry.log_id);
        }
    }
    Ok((tables, last))
}

async fn write(
    config: &Config,
    dir: &Path,
    identity: Identity,
    tables: &Tables,
    last: LogId,
) -> Result<(), RecoverError> {
    let node = identity.node;
    let mut log = SegmentLog::open(&dir.join("log"))?;
    log.purge(last).await?;
    // Durable when it returns, and everything before it too.
    let vote = Vote::new(last.leader_id.term + 1, node);
    log.save_vote(&vote).await?;
    let nodes = BTreeMap::from([(node, Node::new(&config.addrs.mesh))]);
    let alone = Membership::new(vec![BTreeSet::from([node])], nodes);
    let alone = alone.map_err(|error| RecoverError::Membership(error.to_string()))?;
    let last_membership = StoredMembership::new(Some(last), alone);
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership };
    snapshot::write(dir, &meta, &snapshot::encode_tables(tables))?;
    identity::write(dir, Identity { log: log.id(), ..identity })?;
    Ok(())
}
