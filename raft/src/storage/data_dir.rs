//! What a member finds on its disk when it starts, and what becomes of a disk that cannot be
//! trusted.
//!
//! A member that has forgotten a vote or an acknowledged entry must never vote again under its
//! number (R9): whatever is damaged or missing, everything is set aside and it comes back as a new
//! member.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use limes_routing::{DecodeError, Tables};
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use tokio::task::spawn_blocking;

use crate::config::Config;
use crate::membership::quorum_report as quorum;
use crate::metrics::RaftMetrics;
use crate::replica::StartError;
use crate::storage::identity::{self, Identity, hex};
use crate::storage::log::files::at;
use crate::storage::log::{OpenError, SegmentLog};
use crate::storage::member_cache::Known;
use crate::storage::quarantine as aside;
use crate::storage::snapshot;
use crate::types::SnapshotMeta;

/// What was found.
pub(crate) struct Disk {
    pub(crate) identity: Option<Identity>,
    pub(crate) log: SegmentLog,
    pub(crate) snapshot: Option<(SnapshotMeta, Tables)>,
    /// The index of the newest entry that the log or the snapshot holds, plus one.
    pub(crate) next: u64,
    /// Whether the log has never held anything.
    pub(crate) unused: bool,
    /// What was here before was set aside, and the node has not joined again yet.
    pub(crate) lost: bool,
}

/// Opens identity, log and snapshot; sets them aside if they are damaged and there are others to
/// join.
///
/// # Errors
/// The disk failed, or is damaged and `cluster.initial` names nobody else.
pub(crate) async fn open(config: &Config, alone: bool) -> Result<Disk, StartError> {
    let dir = &config.dir;
    let failed = |error| StartError::Disk(dir.to_owned(), error);
    make(dir).map_err(failed)?;
    let damage = match look(dir, &config.metrics).await {
        Ok(disk) => return Ok(disk),
        Err(OpenError::Io(error)) => return Err(failed(error)),
        Err(error @ OpenError::Unknown { .. }) => return Err(StartError::Unknown(error)),
        Err(damage) => damage,
    };
    if alone {
        // What is known of the others lies apart from what is damaged.
        let help = quorum::help_alone(&config.name, &Known::read(dir).members);
        return Err(StartError::Damaged(damage, help));
    }
    aside::set_aside(dir, &damage.to_string()).map_err(failed)?;
    look(dir, &config.metrics).await.map_err(|error| failed(io::Error::other(error.to_string())))
}

/// Makes the directory; its name is durable when this returns.
fn make(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    let parent = aside::parent(dir);
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(at(parent))
}

/// Opens all there is, without changing what cannot be trusted.
///
/// # Errors
/// Something is damaged, or the disk failed.
pub(crate) async fn look(dir: &Path, metrics: &RaftMetrics) -> Result<Disk, OpenError> {
    let (from, metrics) = (dir.to_owned(), metrics.clone());
    let (identity, mut log, snapshot) =
        spawn_blocking(move || read(&from, &metrics)).await.map_err(io::Error::other)??;
    let state = log.get_log_state().await?;
    let voted = log.read_vote().await?.is_some();
    let unused = !voted && state.last_log_id.is_none() && snapshot.is_none();
    match identity {
        None if !unused => return Err(damaged(dir.join("identity"), "it is missing, but there is a log")),
        Some(identity) if identity.log != log.id() => {
            return Err(damaged(dir.join("log"), "it is not the log of this identity"));
        }
        _ => {}
    }
    let covered = snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
    if let Some(purged) =
        state.last_purged_log_id.filter(|purged| covered.is_none_or(|to| to.index < purged.index))
    {
        let what = format!("the log begins behind entry {}, and no snapshot reaches it", purged.index);
        return Err(damaged(dir.join("snapshot"), what));
    }
    // A snapshot that was just installed reaches beyond the log, and is acknowledged.
    let newest = state.last_log_id.map(|last| last.index).max(covered.map(|to| to.index));
    let next = newest.map_or(0, |newest| newest + 1);
    let lost = identity.is_none() && aside::is_lost(dir)?;
    Ok(Disk { identity, log, snapshot, next, unused, lost })
}

type Found = (Option<Identity>, SegmentLog, Option<(SnapshotMeta, Tables)>);

fn read(dir: &Path, metrics: &RaftMetrics) -> Result<Found, OpenError> {
    let identity = checked(identity::read(dir), || dir.join("identity"))?;
    let snapshot = checked(snapshot::read(dir), || dir.join("snapshot"))?;
    let snapshot = match snapshot {
        Some((meta, body)) => Some((meta, tables(dir, identity, body)?)),
        None => None,
    };
    let log = dir.join("log");
    // The log's first file is there before the identity is.
    if identity.is_some() && !has_segments(&log).map_err(at(&log))? {
        return Err(damaged(log, "it is missing, but there is an identity"));
    }
    Ok((identity, SegmentLog::open_measured(&log, metrics)?, snapshot))
}

/// What a snapshot holds; another cluster's would be served in place of ours.
fn tables(dir: &Path, identity: Option<Identity>, body: Bytes) -> Result<Tables, OpenError> {
    let file = || dir.join("snapshot");
    let tables = Tables::decode_snapshot(body).map_err(|error| match error {
        DecodeError::Unknown(..) => OpenError::Unknown { file: file(), offset: 0, what: error.to_string() },
        _ => damaged(file(), format!("a snapshot without meaning: {error}")),
    })?;
    let ours = identity.map(|identity| identity.cluster);
    match tables.cluster().map(|cluster| cluster.id) {
        Some(theirs) if ours.is_some_and(|ours| ours != theirs) => {
            Err(damaged(file(), format!("it is a snapshot of another cluster, {}", hex(&theirs))))
        }
        _ => Ok(tables),
    }
}

/// What was read, if it is whole; bytes that are there and wrong are damage, all else is the disk.
fn checked<T>(read: io::Result<T>, file: impl FnOnce() -> PathBuf) -> Result<T, OpenError> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => damaged(file(), error.to_string()),
        io::ErrorKind::Unsupported => OpenError::Unknown { file: file(), offset: 0, what: error.to_string() },
        _ => OpenError::Io(at(&file())(error)),
    })
}

fn damaged(file: PathBuf, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file, offset: 0, what: what.into() }
}

fn has_segments(log: &Path) -> io::Result<bool> {
    let files = match fs::read_dir(log) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for file in files {
        if file?.path().extension().is_some_and(|ext| ext == "seg") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use bytes::BytesMut;
    use limes_routing::{Batch, Event, Revision};
    use openraft::entry::EntryPayload;
    use openraft::impls::leader_id_adv::LeaderId;
    use openraft::storage::IOFlushed;
    use openraft::type_config::TypeConfigExt;
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::types::{Entry, LogId, Membership, Node, StoredMembership, TypeConfig};

    const CLUSTER: [u8; 16] = [7; 16];

    fn id(index: u64) -> LogId {
        LogId::new(LeaderId::new(1, 1).to_committed(), index)
    }

    /// A directory with ten entries in its log.
    async fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SegmentLog::open(&dir.path().join("log")).unwrap();
        let entries = (0..10).map(|index| Entry { log_id: id(index), payload: EntryPayload::Blank });
        let (tell, told) = TypeConfig::oneshot();
        log.append(entries, IOFlushed::<TypeConfig>::signal(tell)).await.unwrap();
        told.await.unwrap().unwrap();
        let identity = Identity { cluster: CLUSTER, node: 1, log: log.id(), lives: 1, salt: 1 };
        identity::write(dir.path(), identity).unwrap();
        dir
    }

    /// A snapshot of a cluster, as of entry 50.
    fn put_snapshot(dir: &Path, cluster: [u8; 16]) {
        let mut tables = Tables::new();
        let made = Event::ClusterMade { cluster, key: vec![0; 32].into(), founders: Vec::new() };
        tables.apply(Revision(1), &Batch { origin: None, time_ms: 0, events: vec![made] });
        assert_eq!(tables.cluster().map(|cluster| cluster.id), Some(cluster));
        let mut body = BytesMut::new();
        tables.encode_snapshot().iter().for_each(|chunk| body.extend_from_slice(chunk));
        let nodes = BTreeMap::from([(1, Node::new("127.0.0.1:1"))]);
        let alone = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let last_membership = StoredMembership::new(Some(id(0)), alone);
        let meta = SnapshotMeta { last_log_id: Some(id(50)), last_membership };
        snapshot::write(dir, &meta, &body.freeze()).unwrap();
    }

    /// What the leader sent as a snapshot is acknowledged, though the log does not reach as far yet.
    #[tokio::test]
    async fn a_snapshot_beyond_the_log_counts() {
        let dir = directory().await;
        assert_eq!(
            look(dir.path(), &RaftMetrics::default()).await.unwrap_or_else(|error| panic!("{error}")).next,
            10
        );
        put_snapshot(dir.path(), CLUSTER);
        assert_eq!(
            look(dir.path(), &RaftMetrics::default()).await.unwrap_or_else(|error| panic!("{error}")).next,
            51
        );
    }

    #[tokio::test]
    async fn a_snapshot_of_another_cluster_is_damage() {
        let dir = directory().await;
        put_snapshot(dir.path(), [8; 16]);
        let Err(error) = look(dir.path(), &RaftMetrics::default()).await else { panic!("it is not ours") };
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("another cluster, 0808"), "{error}");
    }

    /// A disk that refuses a file has not lost it: nothing is set aside, and the file is named.
    #[tokio::test]
    async fn what_the_disk_refuses_is_named() {
        for name in ["identity", "snapshot"] {
            let dir = directory().await;
            let file = dir.path().join(name);
            let _ = fs::remove_file(&file);
            fs::create_dir(&file).unwrap();
            let Err(error) = look(dir.path(), &RaftMetrics::default()).await else {
                panic!("it cannot be read")
            };
            assert!(matches!(error, OpenError::Io(_)), "{error}");
            assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        }
        let dir = directory().await;
        fs::remove_dir_all(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("log"), "").unwrap();
        let Err(error) = look(dir.path(), &RaftMetrics::default()).await else { panic!("it cannot be read") };
        assert!(matches!(error, OpenError::Io(_)), "{error}");
    }
}
