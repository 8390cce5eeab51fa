//! A cluster of one out of what a member still has, when most of the others are lost for good.
//!
//! Nothing can say whether the lost ones had acknowledged more than this one has: that is what a quorum
//! was for, and why a person must ask for it. The tables go on (settings, ids that were given out, keys of
//! tickets), under a new cluster id: a directory of the old cluster that turns up later is refused,
//! instead of finding a quorum of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use limes_routing::{Batch, NodeId, Revision, Tables};
use openraft::entry::EntryPayload;
use openraft::storage::RaftLogStorage;
use openraft::{Membership, RaftLogReader};
use rand::RngCore;

use crate::config::Config;
use crate::storage::data_dir::{self as disk, Disk};
use crate::storage::identity::{self, Identity, hex};
use crate::storage::log::SegmentLog;
use crate::storage::quarantine as aside;
use crate::storage::snapshot;
use crate::types::{LogId, Node, SnapshotMeta, StoredMembership, Vote};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The new cluster's id, in hexadecimal.
    pub cluster: String,
    /// How far the log was read.
    pub revision: Revision,
    /// Where the directory is kept as it was.
    pub aside: PathBuf,
}

/// Why there is nothing to recover.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RecoverError(String);

impl RecoverError {
    fn because(error: impl std::fmt::Display) -> Self {
        RecoverError(error.to_string())
    }
}

/// Makes a member's directory the begin of a new cluster, in which it is alone until others join. The
/// member must not run. The directory as it was is kept beside the new one, or in it where it cannot be renamed.
///
/// # Errors
/// [`RecoverError`]: there is no data, it is damaged or another node's, or the disk failed. Nothing has changed
/// then, or it is said where everything is.
pub async fn recover(config: &Config) -> Result<Recovered, RecoverError> {
    if !config.dir.join("identity").exists() {
        return Err(RecoverError(format!("{} holds no member's data", config.dir.display())));
    }
    // A link stays one: what it leads to is replaced.
    let dir = &std::fs::canonicalize(&config.dir).map_err(RecoverError::because)?;
    let disk = disk::look(dir, &config.metrics).await.map_err(RecoverError::because)?;
    let Some(old) = disk.identity else { return Err(RecoverError("there is no identity".to_owned())) };
    let (mut tables, last) = replay(disk).await?;
    let Some(last) = last.filter(|_| tables.cluster().is_some()) else {
        return Err(RecoverError("its cluster was never made: start it with an empty directory".to_owned()));
    };
    let node = NodeId(old.node);
    if let Some(owner) = tables.members().find(|row| row.node == node && row.name != config.name) {
        let (dir, owner, me) = (dir.display(), &owner.name, &config.name);
        return Err(RecoverError(format!("{dir} is the data of {owner}, not of {me}: recover it there")));
    }
    let mut cluster = [0; 16];
    rand::rng().fill_bytes(&mut cluster);
    tables.adopt(cluster);
    let fresh = aside::begin(dir).map_err(RecoverError::because)?;
    let identity = Identity { cluster, lives: 0, salt: 0, ..old };
    if let Err(error) = write(config, &fresh, identity, &tables, last).await {
        let _ = std::fs::remove_dir_all(&fresh);
        return Err(error);
    }
    let aside = aside::swap(dir, &fresh).map_err(RecoverError::because)?;
    Ok(Recovered { cluster: hex(&cluster), revision: Revision(last.index), aside })
}

/// The tables at the end of the log, agreed on or not: what was acknowledged is in it, as far as this
/// member has it.
async fn replay(disk: Disk) -> Result<(Tables, Option<LogId>), RecoverError> {
    let Disk { mut log, snapshot, .. } = disk;
    let (mut tables, mut last) = match snapshot {
        Some((meta, tables)) => (tables, meta.last_log_id),
        None => (Tables::new(), None),
    };
    let end = log.get_log_state().await.map_err(RecoverError::because)?.last_log_id;
    while let Some(end) = end.filter(|end| Some(*end) > last) {
        let next = last.map_or(0, |last| last.index + 1);
        let entries =
            log.limited_get_log_entries(next, end.index + 1).await.map_err(RecoverError::because)?;
        if entries.is_empty() {
            return Err(RecoverError(format!("entry {next} of the log is missing")));
        }
        for entry in entries {
            if let EntryPayload::Normal(data) = entry.payload {
                let batch = Batch::decode(data.0).map_err(RecoverError::because)?;
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
    let mut log = SegmentLog::open(&dir.join("log")).map_err(RecoverError::because)?;
    log.purge(last).await.map_err(RecoverError::because)?;
    // Durable when it returns, and with it what came before.
    let vote = Vote::new(last.leader_id.term + 1, node);
    log.save_vote(&vote).await.map_err(RecoverError::because)?;
    let mut body = BytesMut::new();
    tables.encode_snapshot().iter().for_each(|chunk| body.extend_from_slice(chunk));
    let nodes = BTreeMap::from([(node, Node::new(&config.addrs.mesh))]);
    let alone = Membership::new(vec![BTreeSet::from([node])], nodes);
    let alone = alone.map_err(RecoverError::because)?;
    let last_membership = StoredMembership::new(Some(last), alone);
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership };
    snapshot::write(dir, &meta, &body.freeze()).map_err(RecoverError::because)?;
    identity::write(dir, Identity { log: log.id(), ..identity }).map_err(RecoverError::because)
}
