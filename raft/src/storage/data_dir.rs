//! Opening a data directory: identity, log and snapshot together.
//!
//! A member that has forgotten a vote or an acknowledged entry must never vote again under its number
//! (R9). So whatever is damaged or missing, the whole directory counts as damaged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use limes_routing::{DecodeError, Tables};
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use tokio::task::spawn_blocking;

use super::atomic::{sync, with_path};
use super::identity::{self, Identity};
use super::log::{OpenError, SegmentLog};
use super::{quarantine, snapshot};
use crate::metrics::RaftMetrics;
use crate::types::SnapshotMeta;

/// A snapshot with its tables decoded.
pub(crate) type LoadedSnapshot = (SnapshotMeta, Tables);

/// An open data directory.
pub(crate) struct DataDir {
    pub(crate) identity: Option<Identity>,
    pub(crate) log: SegmentLog,
    pub(crate) snapshot: Option<LoadedSnapshot>,
    /// The index behind the newest entry that the log or the snapshot holds.
    pub(crate) next_index: u64,
    /// Whether the log has never held anything.
    pub(crate) unused: bool,
    /// Whether an earlier directory was quarantined and the node has not joined again yet.
    pub(crate) lost_data: bool,
}

/// Makes the directory; its name is durable when this returns.
///
/// # Errors
/// The disk failed.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir).map_err(with_path(dir))?;
    sync(quarantine::parent(dir))
}

/// Opens a data directory that exists. Changes nothing if something is damaged.
///
/// # Errors
/// Something is damaged or was written by another version, or the disk failed.
///
/// # Cancel safety
/// The blocking part goes on after a cancellation, and then closes what it opened.
pub(crate) async fn open(dir: &Path, metrics: &RaftMetrics) -> Result<DataDir, OpenError> {
    let (from, metrics) = (dir.to_owned(), metrics.clone());
    let Files { identity, mut log, snapshot } =
        spawn_blocking(move || read(&from, &metrics)).await.map_err(io::Error::other)??;
    let state = log.get_log_state().await?;
    let voted = log.read_vote().await?.is_some();
    let unused = !voted && state.last_log_id.is_none() && snapshot.is_none();
    match identity {
        None if !unused => {
            return Err(damaged(dir.join("identity"), "the identity is missing, but there is a log"));
        }
        Some(identity) if identity.log != log.id() => {
            return Err(damaged(dir.join("log"), "the log does not belong to the identity"));
        }
        _ => {}
    }
    let covered = snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
    if let Some(purged) =
        state.last_purged_log_id.filter(|purged| covered.is_none_or(|to| to.index < purged.index))
    {
        let what = format!("the log starts after entry {}, and no snapshot covers that entry", purged.index);
        return Err(damaged(dir.join("snapshot"), what));
    }
    // A snapshot that was just installed reaches beyond the log, and it is acknowledged.
    let newest = state.last_log_id.map(|last| last.index).max(covered.map(|to| to.index));
    let next_index = newest.map_or(0, |newest| newest + 1);
    let lost_data = identity.is_none() && quarantine::has_lost_data(dir)?;
    Ok(DataDir { identity, log, snapshot, next_index, unused, lost_data })
}

/// What the files hold, each checked by itself.
struct Files {
    identity: Option<Identity>,
    log: SegmentLog,
    snapshot: Option<LoadedSnapshot>,
}

fn read(dir: &Path, metrics: &RaftMetrics) -> Result<Files, OpenError> {
    let identity = classify(identity::read(dir), || dir.join("identity"))?;
    let snapshot = classify(snapshot::read(dir), || dir.join(snapshot::NAME))?;
    let snapshot = match snapshot {
        Some((meta, body)) => Some((meta, decode_tables(dir, identity, body)?)),
        None => None,
    };
    let log = dir.join("log");
    // The log's first file is made before the identity is written.
    if identity.is_some() && !has_segments(&log).map_err(with_path(&log))? {
        return Err(damaged(log, "the log is missing, but there is an identity"));
    }
    Ok(Files { identity, log: SegmentLog::open_measured(&log, metrics)?, snapshot })
}

/// Decodes the tables of a snapshot, and refuses those of another cluster.
fn decode_tables(dir: &Path, identity: Option<Identity>, body: Bytes) -> Result<Tables, OpenError> {
    let file = || dir.join(snapshot::NAME);
    let tables = Tables::decode_snapshot(body).map_err(|error| match error {
        DecodeError::Unknown(..) => OpenError::Unknown { file: file(), offset: 0, what: error.to_string() },
        _ => damaged(file(), format!("the snapshot cannot be decoded: {error}")),
    })?;
    let ours = identity.map(|identity| identity.cluster);
    match tables.cluster().map(|cluster| cluster.id) {
        Some(theirs) if ours.is_some_and(|ours| ours != theirs) => {
            let what = format!("the snapshot belongs to another cluster, {}", hex::encode(theirs));
            Err(damaged(file(), what))
        }
        _ => Ok(tables),
    }
}

/// Tells damage from a failure of the disk: only bytes that are there and wrong are damage.
fn classify<T>(read: io::Result<T>, file: impl FnOnce() -> PathBuf) -> Result<T, OpenError> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => damaged(file(), error.to_string()),
        io::ErrorKind::Unsupported => OpenError::Unknown { file: file(), offset: 0, what: error.to_string() },
        _ => OpenError::Io(with_path(&file())(error)),
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
#[path = "data_dir_tests.rs"]
mod tests;
