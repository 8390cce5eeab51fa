//! The thread that owns the database.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use limes_routing::Revision;
use tracing::{info, warn};

use super::chunk::{self, Chunk};
use super::model::{Command, Filter, HistoryError, Limits, Record};

/// How long a batch may wait in memory for others.
const GATHER: Duration = Duration::from_millis(200);
/// How long to wait without a command; nothing happens then.
const IDLE: Duration = Duration::from_secs(10);
/// How long the database of a process that has just ended may still be locked.
const LOCKED: Duration = Duration::from_secs(5);
/// Bytes of sled's page cache.
const CACHE: u64 = 8 << 20;
/// The records that a search without a limit returns at most.
const RECORDS: usize = 1_000;

/// Why the database cannot be used.
enum DatabaseError {
    Damaged(String),
    Disk(String),
}

impl From<sled::Error> for DatabaseError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => DatabaseError::Disk(error.to_string()),
            error => DatabaseError::Damaged(error.to_string()),
        }
    }
}

/// Runs until the handle is dropped or the disk fails.
pub(super) fn run(dir: &Path, limits: Limits, queue: &Receiver<Command>) {
    loop {
        let end = guarded(|| {
            let mut database = Database::open(dir, limits)?;
            database.serve(queue)
        });
        match end {
            Ok(()) => return,
            Err(DatabaseError::Damaged(what)) => match quarantine(dir) {
                Ok(()) => warn!(%what, "the history is damaged: it is in quarantine, and a new one begins"),
                Err(error) => {
                    return warn!(%what, %error, "the history is damaged and cannot be moved away: no history is kept");
                }
            },
            Err(DatabaseError::Disk(error)) => {
                return warn!(%error, "the disk of the history failed: no history is kept");
            }
        }
    }
}

/// Turns a panic into an error: sled panics on some kinds of damage.
fn guarded(work: impl FnOnce() -> Result<(), DatabaseError>) -> Result<(), DatabaseError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(DatabaseError::Damaged("sled panicked".to_owned())))
}

/// Renames the directory to `history.damaged`, in place of an earlier one.
fn quarantine(dir: &Path) -> io::Result<()> {
    let kept = dir.with_extension("damaged");
    match fs::remove_dir_all(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(dir, kept)
}

struct Database {
    db: sled::Db,
    limits: Limits,
    chunk: Chunk,
    /// The newest revision that is stored.
    last: Option<Revision>,
    bytes: u64,
    newest_ms: u64,
}

impl Database {
    fn open(dir: &Path, limits: Limits) -> Result<Self, DatabaseError> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(Some(1_000));
        let until = Instant::now() + LOCKED;
        let db = loop {
            match config.open() {
                Err(sled::Error::Io(_)) if Instant::now() < until => std::thread::sleep(GATHER),
                opened => break opened?,
            }
        };
        let mut database =
            Database { db, limits, chunk: Chunk::default(), last: None, bytes: 0, newest_ms: 0 };
        for item in database.db.iter() {
            let (_, value) = item?;
            database.bytes += value.len() as u64;
            database.newest_ms = database.newest_ms.max(chunk::newest_ms(&value).ok_or_else(unreadable)?);
        }
        if let Some((_, value)) = database.db.last()? {
            database.last = Some(chunk::last(&value).ok_or_else(unreadable)?);
        }
        info!(bytes = database.bytes, last = ?database.last, "history opened");
        Ok(database)
    }

    fn serve(&mut self, queue: &Receiver<Command>) -> Result<(), DatabaseError> {
        let mut since = None;
        loop {
            let wait = since.map_or(IDLE, |since: Instant| GATHER.saturating_sub(since.elapsed()));
            match queue.recv_timeout(wait) {
                Ok(Command::Record(batch)) => {
                    // After a restart the log is applied again: these batches are stored already.
                    if Some(batch.revision) > self.last.max(self.chunk.last) {
                        since.get_or_insert_with(Instant::now);
                        self.chunk.push(batch);
                    }
                    if !self.chunk.is_full() {
                        continue;
                    }
                }
                Ok(Command::Search(filter, reply)) => {
                    self.store()?;
                    let found = self.search(&filter);
                    let _ = reply.send(found.as_ref().map(Vec::clone).map_err(|_| HistoryError::Unavailable));
                    found?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.store()?;
                    self.db.flush()?;
                    return Ok(());
                }
            }
            since = None;
            self.store()?;
        }
    }

    /// Stores the chunk that was being filled.
    fn store(&mut self) -> Result<(), DatabaseError> {
        let (last, newest) = (self.chunk.last, self.chunk.newest_ms);
        let Some((key, value)) = self.chunk.take() else { return Ok(()) };
        self.last = self.last.max(last);
        self.newest_ms = self.newest_ms.max(newest);
        self.bytes += value.len() as u64;
        self.db.insert(key, value.as_ref())?;
        self.prune()
    }

    /// Removes the oldest chunks while they are too old or all of them take too many bytes.
    fn prune(&mut self) -> Result<(), DatabaseError> {
        let age = u64::try_from(self.limits.age.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.newest_ms.saturating_sub(age);
        while let Some((key, value)) = self.db.first()? {
            let is_old = chunk::newest_ms(&value).ok_or_else(unreadable)? < oldest;
            if !is_old && self.bytes <= self.limits.bytes {
                break;
            }
            self.db.remove(key)?;
            self.bytes = self.bytes.saturating_sub(value.len() as u64);
        }
        Ok(())
    }

    fn search(&self, filter: &Filter) -> Result<Vec<Record>, DatabaseError> {
        let limit = filter.limit.unwrap_or(RECORDS);
        let mut found = Vec::new();
        // The chunk that holds the position may begin before the position.
        let from = filter.after.map_or(0, |after| after.revision.0);
        let begin = match self.db.get_lt((from + 1).to_be_bytes())? {
            Some((key, _)) => key.to_vec(),
            None => Vec::new(),
        };
        for item in self.db.range(begin..) {
            let (_, value) = item?;
            chunk::search(&value, filter, &mut found).ok_or_else(unreadable)?;
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

fn unreadable() -> DatabaseError {
    DatabaseError::Damaged("a chunk cannot be read".to_owned())
}
