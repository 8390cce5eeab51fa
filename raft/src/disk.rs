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
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use tokio::task::spawn_blocking;
use tracing::error;

use crate::identity::{self, Identity};
use crate::log::{OpenError, SegmentLog};
use crate::replica::StartError;
use crate::snapshot;
use crate::types::SnapshotMeta;

/// What is set aside when something of it is damaged.
const ALL: [&str; 4] = ["log", "identity", "snapshot", "members"];
/// Says in a new directory what became of the one before.
const LOST: &str = "rejoin";

/// What was found.
pub(crate) struct Disk {
    pub(crate) identity: Option<Identity>,
    pub(crate) log: SegmentLog,
    pub(crate) snapshot: Option<(SnapshotMeta, Bytes)>,
    /// The index of the log's newest entry, plus one.
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
/// The disk failed, or is damaged and this is the only node.
pub(crate) async fn open(dir: &Path, alone: bool) -> Result<Disk, StartError> {
    let failed = |error| StartError::Disk(dir.to_owned(), error);
    make(dir).map_err(failed)?;
    let damage = match look(dir).await {
        Ok(disk) => return Ok(disk),
        Err(OpenError::Io(error)) => return Err(failed(error)),
        Err(error @ OpenError::Unknown { .. }) => return Err(StartError::Unknown(error)),
        Err(damage) => damage,
    };
    if alone {
        return Err(StartError::Damaged(damage));
    }
    set_aside(dir, &damage.to_string()).map_err(failed)?;
    look(dir).await.map_err(StartError::Damaged)
}

/// Makes the directory; its name is durable when this returns.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    File::open(parent(dir))?.sync_all()
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens all there is, without changing what cannot be trusted.
///
/// # Errors
/// Something is damaged, or the disk failed.
pub(crate) async fn look(dir: &Path) -> Result<Disk, OpenError> {
    let from = dir.to_owned();
    let (identity, mut log, snapshot) =
        spawn_blocking(move || read(&from)).await.map_err(io::Error::other)??;
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
    let next = state.last_log_id.map_or(0, |last| last.index + 1);
    Ok(Disk { identity, log, snapshot, next, unused, lost: dir.join(LOST).exists() })
}

type Found = (Option<Identity>, SegmentLog, Option<(SnapshotMeta, Bytes)>);

fn read(dir: &Path) -> Result<Found, OpenError> {
    let identity = checked(identity::read(dir), || dir.join("identity"))?;
    let snapshot = checked(snapshot::read(dir), || dir.join("snapshot"))?;
    let log = dir.join("log");
    // The log's first file is there before the identity is.
    if identity.is_some() && !has_segments(&log) {
        return Err(damaged(log, "it is missing, but there is an identity"));
    }
    Ok((identity, SegmentLog::open(&log)?, snapshot))
}

/// What was read, if it is whole; bytes that are there and wrong are damage, all else is the disk.
fn checked<T>(read: io::Result<T>, file: impl FnOnce() -> PathBuf) -> Result<T, OpenError> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => damaged(file(), error.to_string()),
        io::ErrorKind::Unsupported => OpenError::Unknown { file: file(), offset: 0, what: error.to_string() },
        _ => OpenError::Io(error),
    })
}

fn damaged(file: PathBuf, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file, offset: 0, what: what.into() }
}

fn has_segments(log: &Path) -> bool {
    fs::read_dir(log).is_ok_and(|files| {
        files.flatten().any(|file| file.path().extension().is_some_and(|ext| ext == "seg"))
    })
}

/// Moves a directory that cannot be trusted out of the way: `data` becomes `data.damaged-1`, or
/// `data/damaged-1` where the directory itself cannot be renamed. In its place comes an empty one that
/// says so, for a node that had data must not found another cluster.
///
/// # Errors
/// The disk failed.
pub(crate) fn set_aside(dir: &Path, why: &str) -> io::Result<()> {
    let aside = match beside(dir) {
        Ok(aside) => aside,
        // A mount point, or a parent that is not ours.
        Err(_) => within(dir)?,
    };
    let text = format!("{why}\nwhat was here is kept in {}\n", aside.display());
    identity::replace(dir, LOST, &[text.as_bytes()])?;
    error!(%why, aside = %aside.display(), "this member's data cannot be trusted: it was set aside, and the node joins as a new member");
    Ok(())
}

fn free(name: impl Fn(u32) -> PathBuf) -> io::Result<PathBuf> {
    let free = (1..10_000).map(name).find(|path| !path.exists());
    free.ok_or_else(|| io::Error::other("no name is left for what is damaged"))
}

/// Puts another directory in the place of one, which is kept as `data.before-N`.
///
/// # Errors
/// The disk failed.
pub(crate) fn swap(dir: &Path, fresh: &Path) -> io::Result<PathBuf> {
    let aside = free_beside(dir, "before")?;
    fs::rename(dir, &aside)?;
    fs::rename(fresh, dir)?;
    File::open(parent(dir))?.sync_all()?;
    Ok(aside)
}

/// A name beside a directory that is not taken.
///
/// # Errors
/// The directory cannot have one.
pub(crate) fn free_beside(dir: &Path, what: &str) -> io::Result<PathBuf> {
    let name = dir.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    free(|n| dir.with_file_name(format!("{name}.{what}-{n}")))
}

fn beside(dir: &Path) -> io::Result<PathBuf> {
    let aside = free_beside(dir, "damaged")?;
    fs::rename(dir, &aside)?;
    make(dir)?;
    Ok(aside)
}

fn within(dir: &Path) -> io::Result<PathBuf> {
    let aside = free(|n| dir.join(format!("damaged-{n}")))?;
    fs::create_dir(&aside)?;
    for name in ALL {
        match fs::rename(dir.join(name), aside.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    File::open(&aside)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(aside)
}

/// The node has joined again.
pub(crate) fn forget_loss(dir: &Path) {
    // If this fails the node is a member all the same; the file is only read without an identity.
    let _ = fs::remove_file(dir.join(LOST));
}
