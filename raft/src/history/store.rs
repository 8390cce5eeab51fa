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
use super::{Filter, HistoryError, Job, Limits, Record};

/// How long a batch may wait for others.
const GATHER: Duration = Duration::from_millis(200);
/// How long the database of a process that has just ended may still be locked.
const LOCKED: Duration = Duration::from_secs(5);
/// Memory for pages, in bytes.
const CACHE: u64 = 8 << 20;
/// Records that a search gives if it does not say how many.
const RECORDS: usize = 1_000;

/// Why the database cannot be used.
enum Trouble {
    Damaged(String),
    Disk(String),
}

impl From<sled::Error> for Trouble {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Trouble::Disk(error.to_string()),
            error => Trouble::Damaged(error.to_string()),
        }
    }
}

/// Keeps the history until its handle is gone, or the disk fails.
pub(super) fn run(dir: &Path, limits: Limits, queue: &Receiver<Job>) {
    loop {
        let end = guarded(|| {
            let mut store = Store::open(dir, limits)?;
            store.serve(queue)
        });
        match end {
            Ok(()) => return,
            Err(Trouble::Damaged(what)) => match set_aside(dir) {
                Ok(()) => warn!(%what, "the history is damaged: it was set aside and begins anew"),
                Err(error) => return warn!(%what, %error, "the history is damaged; none is kept"),
            },
            Err(Trouble::Disk(error)) => return warn!(%error, "the history's disk fails; none is kept"),
        }
    }
}

/// sled panics on some kinds of damage.
fn guarded(work: impl FnOnce() -> Result<(), Trouble>) -> Result<(), Trouble> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Trouble::Damaged("sled gave up".to_owned())))
}

fn set_aside(dir: &Path) -> io::Result<()> {
    let aside = dir.with_extension("damaged");
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(dir, aside)
}

struct Store {
    db: sled::Db,
    limits: Limits,
    chunk: Chunk,
    /// The newest revision that is stored.
    last: Option<Revision>,
    bytes: u64,
    newest_ms: u64,
}

impl Store {
    fn open(dir: &Path, limits: Limits) -> Result<Self, Trouble> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE).flush_every_ms(Some(1_000));
        let until = Instant::now() + LOCKED;
        let db = loop {
            match config.open() {
                Err(sled::Error::Io(_)) if Instant::now() < until => std::thread::sleep(GATHER),
                opened => break opened?,
            }
        };
        let mut store = Store { db, limits, chunk: Chunk::default(), last: None, bytes: 0, newest_ms: 0 };
        for item in store.db.iter() {
            let (_, value) = item?;
            store.bytes += value.len() as u64;
            store.newest_ms = store.newest_ms.max(chunk::newest_ms(&value).ok_or_else(unreadable)?);
        }
        if let Some((_, value)) = store.db.last()? {
            store.last = Some(chunk::last(&value).ok_or_else(unreadable)?);
        }
        info!(bytes = store.bytes, last = ?store.last, "history opened");
        Ok(store)
    }

    fn serve(&mut self, queue: &Receiver<Job>) -> Result<(), Trouble> {
        let mut since = None;
        loop {
            let wait = since.map_or(GATHER * 50, |since: Instant| GATHER.saturating_sub(since.elapsed()));
            match queue.recv_timeout(wait) {
                Ok(Job::Record(entry)) => {
                    // After a restart the log is applied again.
                    if Some(entry.revision) > self.last.max(self.chunk.last) {
                        since.get_or_insert_with(Instant::now);
                        self.chunk.push(entry);
                    }
                    if !self.chunk.is_full() {
                        continue;
                    }
                }
                Ok(Job::Search(filter, tell)) => {
                    self.store()?;
                    let found = self.search(&filter);
                    let _ = tell.send(found.as_ref().map(Vec::clone).map_err(|_| HistoryError::Unavailable));
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

    fn store(&mut self) -> Result<(), Trouble> {
        let (last, newest) = (self.chunk.last, self.chunk.newest_ms);
        let Some((key, value)) = self.chunk.take() else { return Ok(()) };
        self.last = self.last.max(last);
        self.newest_ms = self.newest_ms.max(newest);
        self.bytes += value.len() as u64;
        self.db.insert(key, value.as_ref())?;
        self.prune()
    }

    /// Drops the oldest while there is too much, or it is too old.
    fn prune(&mut self) -> Result<(), Trouble> {
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

    fn search(&self, filter: &Filter) -> Result<Vec<Record>, Trouble> {
        let limit = if filter.limit == 0 { RECORDS } else { filter.limit };
        let mut found = Vec::new();
        // The chunk that holds the position may begin before it.
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

fn unreadable() -> Trouble {
    Trouble::Damaged("a chunk cannot be read".to_owned())
}
