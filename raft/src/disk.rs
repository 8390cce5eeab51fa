//! What a member finds on its disk when it starts, and what becomes of a disk that cannot be
//! trusted.
//!
//! A member that has forgotten a vote or an acknowledged entry must never vote again under its
//! number (R9): whatever is damaged or missing, everything is set aside and it comes back as a new
//! member.

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
const ALL: [&str; 3] = ["log", "identity", "snapshot"];

/// What was found.
pub(crate) struct Disk {
    pub(crate) identity: Option<Identity>,
    pub(crate) log: SegmentLog,
    pub(crate) snapshot: Option<(SnapshotMeta, Bytes)>,
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
        Err(damage) => damage,
    };
    if alone {
        return Err(StartError::Damaged(damage));
    }
    let aside = set_aside(dir).map_err(failed)?;
    error!(%damage, aside = %aside.display(), "this member's disk cannot be trusted: it was set aside, and the node joins as a new member");
    look(dir).await.map_err(StartError::Damaged)
}

/// Makes the directory; its name is durable when this returns.
fn make(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

async fn look(dir: &Path) -> Result<Disk, OpenError> {
    let from = dir.to_owned();
    let (identity, mut log, snapshot) =
        spawn_blocking(move || read(&from)).await.map_err(io::Error::other)??;
    let state = log.get_log_state().await?;
    let voted = log.read_vote().await?.is_some();
    if identity.is_none() && (voted || state.last_log_id.is_some() || snapshot.is_some()) {
        return Err(damaged(dir.join("identity"), "it is missing, but there is a log"));
    }
    let covered = snapshot.as_ref().and_then(|(meta, _)| meta.last_log_id);
    if let Some(purged) =
        state.last_purged_log_id.filter(|purged| covered.is_none_or(|to| to.index < purged.index))
    {
        let what = format!("the log begins behind entry {}, and no snapshot reaches it", purged.index);
        return Err(damaged(dir.join("snapshot"), what));
    }
    Ok(Disk { identity, log, snapshot })
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
        _ => OpenError::Io(error),
    })
}

fn damaged(file: PathBuf, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file, offset: 0, what: what.into() }
}

fn has_segments(log: &Path) -> bool {
    std::fs::read_dir(log).is_ok_and(|files| {
        files.flatten().any(|file| file.path().extension().is_some_and(|ext| ext == "seg"))
    })
}

fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let aside = (1..10_000).map(|n| dir.join(format!("damaged-{n}"))).find(|path| !path.exists());
    let aside = aside.ok_or_else(|| io::Error::other("no name is left for what is damaged"))?;
    std::fs::create_dir(&aside)?;
    for name in ALL {
        match std::fs::rename(dir.join(name), aside.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    std::fs::File::open(&aside)?.sync_all()?;
    std::fs::File::open(dir)?.sync_all()?;
    Ok(aside)
}
