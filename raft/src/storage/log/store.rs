//! The log as openraft uses it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::{Mutex, MutexGuard};
use rand::Rng;
use tokio::sync::oneshot;

use super::files::{Files, Folder, LogFile};
use super::open::{self, OpenError, Replayed};
use super::record::Kind;
use super::segment::{self, BEGINNING, Mark};
use super::state::{State, stopped};
use super::writer::{Command, Writer, position};
use crate::metrics::RaftMetrics;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes that one read returns at most, unless one entry alone is larger.
const READ: usize = 2 << 20;

/// The checked segment log; see the [module](super). Clones share one log.
#[derive(Clone)]
pub struct SegmentLog(Arc<Shared>);

struct Shared {
    id: u64,
    files: Arc<dyn Files>,
    /// Held to look up entries, to queue records, and to read old entries from disk; never across an await.
    state: Mutex<State>,
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SegmentLog").field(&self.0.files.path("")).finish()
    }
}

/// The segment that the writer continues.
struct Active {
    file: Arc<dyn LogFile>,
    segment: u64,
    offset: u64,
    capacity: u64,
}

impl Active {
    fn open(files: &dyn Files, replayed: &Replayed) -> io::Result<Self> {
        match replayed.segments.back() {
            Some((segment, _)) => {
                let (file, capacity) =
                    segment::reopen(files, *segment, replayed.durable_offset, replayed.end)?;
                Ok(Active { file, segment: *segment, offset: replayed.end, capacity })
            }
            None => {
                let capacity = files.segment_bytes();
                let file = segment::create(files, 1, capacity)?;
                Ok(Active { file, segment: 1, offset: 0, capacity })
            }
        }
    }
}

impl SegmentLog {
    /// Opens the log of a directory, or makes one, and reads it whole. Blocks for about a second per 500 MB,
    /// and while another log of this directory is being closed, whose writer may have files to finish.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] says what is damaged and where; the log must not be used again.
    /// [`OpenError::Io`] is also returned if another process uses the directory.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        SegmentLog::open_in(Arc::new(Folder::new(dir)))
    }

    /// As [`SegmentLog::open`], in another kind of directory.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(files: Arc<dyn Files>) -> Result<Self, OpenError> {
        SegmentLog::open_with(files, &RaftMetrics::default())
    }

    /// As [`SegmentLog::open`], recording to `metrics`.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn open_measured(dir: &Path, metrics: &RaftMetrics) -> Result<Self, OpenError> {
        SegmentLog::open_with(Arc::new(Folder::new(dir)), metrics)
    }

    fn open_with(files: Arc<dyn Files>, metrics: &RaftMetrics) -> Result<Self, OpenError> {
        let lock = files.lock()?;
        let replayed = open::replay(files.as_ref())?;
        let is_new = replayed.segments.is_empty();
        let id = if is_new { rand::rng().random() } else { replayed.id };
        let mark = open_mark(files.as_ref(), is_new)?;
        let active = Active::open(files.as_ref(), &replayed)?;
        Mark { segment: active.segment, offset: active.offset }.write(mark.as_ref())?;
        mark.sync()?;
        files.sync()?;
        let (commands, queue) = channel();
        let durable = Arc::new(AtomicU64::new(position(active.segment, active.offset)));
        let writer = Writer {
            _lock: lock,
            files: files.clone(),
            file: active.file.clone(),
            mark,
            segment: active.segment,
            group: replayed.group,
            durable: durable.clone(),
            fsync_seconds: metrics.fsync_seconds.clone(),
        };
        std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || writer.run(&queue))?;
        let mut segments = replayed.segments;
        if is_new {
            segments.push_back((active.segment, 0));
        }
        let entry_bytes = replayed.entries.iter().map(|entry| u64::from(entry.len)).sum();
        let mut state = State {
            id,
            vote: replayed.vote,
            committed: replayed.committed,
            purged: replayed.purged,
            entries: replayed.entries,
            segments,
            cache: VecDeque::new(),
            cache_bytes: 0,
            segment: active.segment,
            offset: active.offset,
            capacity: active.capacity,
            segment_bytes: files.segment_bytes(),
            readers: BTreeMap::new(),
            commands,
            durable,
            appended_bytes: 0,
            entry_bytes,
            log_bytes: metrics.log_bytes.clone(),
        };
        if active.offset == 0 {
            state.begin_file()?;
        }
        state.report_bytes();
        Ok(SegmentLog(Arc::new(Shared { id, files, state: Mutex::new(state) })))
    }

    /// The id of this log: random, drawn when the log was made, and never changed.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Bytes of the entries that the log holds; decides when a snapshot is due.
    pub fn entry_bytes(&self) -> u64 {
        self.state().entry_bytes
    }

    /// Bytes appended since the log was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.state().appended_bytes
    }

    /// Queues records and waits until they are durable.
    async fn synced(&self, write: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let (sender, synced) = oneshot::channel();
        {
            let mut state = self.state();
            write(&mut state)?;
            state.send(Command::Sync(sender))?;
        }
        synced.await.map_err(|_| stopped())?
    }

    /// Entries of a range, at most `max` bytes but at least one entry.
    fn read(&self, range: impl RangeBounds<u64>, max: usize) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        let Some(first) = state.entries.front().map(|entry| entry.log_id.index) else {
            return Ok(Vec::new());
        };
        let last = first + state.entries.len() as u64;
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => last,
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in start.max(first)..end.min(last) {
            let location = state.entries[(index - first) as usize];
            bytes += location.len as usize;
            if bytes > max && !entries.is_empty() {
                break;
            }
            entries.push(state.read(self.0.files.as_ref(), index, location)?);
        }
        Ok(entries)
    }
}

/// Opens the file of the high-water mark. In a new log it is durable before the first segment is made, so
/// that a missing mark is significant later.
fn open_mark(files: &dyn Files, is_new: bool) -> io::Result<Arc<dyn LogFile>> {
    let mark = files.open(segment::MARK)?;
    if is_new {
        BEGINNING.write(mark.as_ref())?;
        mark.sync()?;
        files.sync()?;
    }
    Ok(mark)
}

impl RaftLogReader<TypeConfig> for SegmentLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(range, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, READ)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.state().vote)
    }
}

impl RaftLogStorage<TypeConfig> for SegmentLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.state();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.synced(|state| {
            state.vote = Some(*vote);
            state.put(Kind::Vote, vote)
        })
        .await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut state = self.state();
        state.committed = committed;
        if let Some(committed) = committed {
            state.put(Kind::Committed, &committed)?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.state().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.state();
        for entry in entries {
            state.append(entry)?;
        }
        state.trim_cache();
        state.report_bytes();
        state.send(Command::Flushed(callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.synced(|state| {
            let after = last.map(|last| last.index);
            // The record comes first: the header of a new file describes the state before its records.
            state.put(Kind::Truncate, &after)?;
            state.truncate(after);
            Ok(())
        })
        .await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let mut state = self.state();
        state.purged = state.purged.max(Some(log_id));
        state.put(Kind::Purge, &log_id)?;
        let unused = state.forget(log_id);
        if unused.is_empty() { Ok(()) } else { state.send(Command::Unlink(unused)) }
    }
}
