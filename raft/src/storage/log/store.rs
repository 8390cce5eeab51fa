//! The log as openraft sees it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use metrics::Gauge;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use rand::Rng;
use tokio::sync::oneshot;

use super::files::{Files, Folder, LogFile};
use super::open::{self, OpenError, Place};
use super::record::{self, At, Begin, Kind};
use super::segment::{self, BEGINNING, Mark};
use super::writer::{Job, Writer, position};
use crate::metrics::RaftMetrics;
use crate::storage::codec::{Encode, decode, encode};
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes of the newest entries that are kept in memory: what followers are sent and what is applied.
const CACHE: usize = 16 << 20;
/// Bytes that one read gives at most, unless one entry alone is larger.
const READ: usize = 2 << 20;

/// The checked segment log; see the module's text. Cheap to clone.
#[derive(Clone)]
pub struct SegmentLog(Arc<Shared>);

struct Shared {
    id: u64,
    files: Arc<dyn Files>,
    // Held for looking up and queueing, and for reads of old entries; never across an await.
    state: Mutex<State>,
}

struct State {
    id: u64,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    places: VecDeque<Place>,
    segments: VecDeque<(u64, u64)>,
    /// The newest entries; their last is that of `places`.
    cache: VecDeque<(Entry, usize)>,
    cache_bytes: usize,
    segment: u64,
    offset: u64,
    capacity: u64,
    /// Bytes of a new file.
    full: u64,
    readers: BTreeMap<u64, Arc<dyn LogFile>>,
    jobs: Sender<Job>,
    durable: Arc<AtomicU64>,
    bytes: u64,
    /// Bytes of the entries in `places`.
    entry_bytes: u64,
    log_bytes: Gauge,
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SegmentLog").field(&self.0.files.path("")).finish()
    }
}

impl SegmentLog {
    /// Opens or makes the log in a directory and reads it whole. Blocks: about a second for 500 MB, and
    /// while another log of this directory is being closed, whose writer may have files to finish.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] says what and where; the log must not be used again. [`OpenError::Io`]
    /// also if the directory is in use.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        SegmentLog::open_in(Arc::new(Folder::new(dir)))
    }

    /// As [`SegmentLog::open`]; records to `metrics`.
    pub(crate) fn open_measured(dir: &Path, metrics: &RaftMetrics) -> Result<Self, OpenError> {
        SegmentLog::open_with(Arc::new(Folder::new(dir)), metrics)
    }

    /// As [`SegmentLog::open`], in a folder of another kind.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(files: Arc<dyn Files>) -> Result<Self, OpenError> {
        SegmentLog::open_with(files, &RaftMetrics::default())
    }

    fn open_with(files: Arc<dyn Files>, metrics: &RaftMetrics) -> Result<Self, OpenError> {
        let lock = files.lock()?;
        let replayed = open::replay(files.as_ref())?;
        let is_new = replayed.segments.is_empty();
        let id = if is_new { rand::rng().random() } else { replayed.id };
        let mark = files.open(segment::MARK)?;
        if is_new {
            // The mark is there before the first file: later a missing one means something.
            BEGINNING.write(mark.as_ref())?;
            mark.sync()?;
            files.sync()?;
        }
        let (jobs, queue) = channel();
        let full = files.segment_bytes();
        let (file, segment, offset, capacity) = match replayed.segments.back() {
            Some((number, _)) => {
                let (file, bytes) = segment::reopen(files.as_ref(), *number, replayed.sure, replayed.end)?;
                (file, *number, replayed.end, bytes)
            }
            None => (segment::create(files.as_ref(), 1, full)?, 1, 0, full),
        };
        Mark { segment, offset }.write(mark.as_ref())?;
        mark.sync()?;
        files.sync()?;
        let mut segments = replayed.segments;
        if is_new {
            segments.push_back((segment, 0));
        }
        let durable = Arc::new(AtomicU64::new(position(segment, offset)));
        let writer = Writer {
            _lock: lock,
            files: files.clone(),
            file,
            mark,
            segment,
            group: replayed.group,
            durable: durable.clone(),
            fsync_seconds: metrics.fsync_seconds.clone(),
        };
        std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || writer.run(&queue))?;
        let entry_bytes = replayed.places.iter().map(|place| u64::from(place.len)).sum();
        let mut state = State {
            id,
            vote: replayed.vote,
            committed: replayed.committed,
            purged: replayed.purged,
            places: replayed.places,
            segments,
            cache: VecDeque::new(),
            cache_bytes: 0,
            segment,
            offset,
            capacity,
            full,
            readers: BTreeMap::new(),
            jobs,
            durable,
            bytes: 0,
            entry_bytes,
            log_bytes: metrics.log_bytes.clone(),
        };
        if offset == 0 {
            state.begin()?;
        }
        state.record_bytes();
        Ok(SegmentLog(Arc::new(Shared { id, files, state: Mutex::new(state) })))
    }

    /// Which log this is: drawn when it was made, and the same for ever.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of entries that are kept, for deciding when a snapshot is due.
    pub fn entry_bytes(&self) -> u64 {
        self.state().entry_bytes
    }

    /// Bytes appended since the log was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.state().bytes
    }

    async fn synced(&self, write: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let (told, done) = oneshot::channel();
        {
            let mut state = self.state();
            write(&mut state)?;
            state.send(Job::Tell(told))?;
        }
        done.await.map_err(|_| stopped())?
    }

    /// Entries of a range, at most `max` bytes but at least one.
    fn read(&self, range: impl RangeBounds<u64>, max: usize) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        let Some(first) = state.places.front().map(|place| place.log_id.index) else {
            return Ok(Vec::new());
        };
        let last = first + state.places.len() as u64;
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
            let place = state.places[(index - first) as usize];
            bytes += place.len as usize;
            if bytes > max && !entries.is_empty() {
                break;
            }
            entries.push(state.entry(self.0.files.as_ref(), index, place)?);
        }
        Ok(entries)
    }
}

/// The entry that a record holds. What was whole when the log was opened may have changed since, and must
/// not be sent to others, who would take it with a fresh checksum.
fn checked(record: Bytes, place: Place, begin: u64) -> Result<Entry, String> {
    match record::first(&record, place.segment, begin) {
        At::Record(found) if found.kind == Kind::Entry => {
            let entry: Entry = decode(found.payload).map_err(|error| error.to_string())?;
            if entry.log_id == place.log_id { Ok(entry) } else { Err("another entry".to_owned()) }
        }
        At::Record(_) | At::Nothing => Err("another record, or none".to_owned()),
        At::Bad(what) => Err(what.to_owned()),
        At::Unknown(what) => Err(what),
    }
}

fn stopped() -> io::Error {
    io::Error::other("the log's writer has stopped")
}

impl State {
    fn send(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| stopped())
    }

    /// The first record of a file.
    fn begin(&mut self) -> io::Result<()> {
        let newest = self.places.back().map(|place| place.log_id).or(self.purged);
        let begin = Begin {
            id: self.id,
            vote: self.vote,
            committed: self.committed,
            purged: self.purged,
            last: newest.map(|last| last.index),
        };
        self.put(Kind::Begin, &begin)
    }

    /// Queues a record at the next place, in a new file if this one is full; gives the place of its
    /// payload.
    fn put(&mut self, kind: Kind, value: &impl Encode) -> io::Result<()> {
        self.put_bytes(kind, encode(value))
    }

    fn put_bytes(&mut self, kind: Kind, payload: Bytes) -> io::Result<()> {
        let len = (record::HEAD + payload.len()) as u64;
        if payload.len() >= record::PAYLOAD_MAX {
            return Err(io::Error::other("an entry larger than the log can hold"));
        }
        // A file's end is told by four zero bytes, or by its length.
        if self.offset + len > self.capacity && kind != Kind::Begin {
            self.segment += 1;
            self.offset = 0;
            self.capacity = self.full.max(len + 4_096);
            self.segments.push_back((self.segment, 0));
            self.send(Job::Roll { segment: self.segment, bytes: self.capacity })?;
            self.begin()?;
        }
        let offset = self.offset;
        self.offset += len;
        self.bytes += len;
        self.send(Job::Record { offset, kind, payload })
    }

    fn append(&mut self, entry: Entry) -> io::Result<()> {
        let payload = encode(&entry);
        let len = payload.len();
        self.put_bytes(Kind::Entry, payload)?;
        let log_id = entry.log_id;
        let offset = self.offset - len as u64;
        self.places.push_back(Place { log_id, segment: self.segment, offset, len: len as u32 });
        self.entry_bytes += len as u64;
        if let Some((_, highest)) = self.segments.back_mut() {
            *highest = (*highest).max(log_id.index);
        }
        self.cache.push_back((entry, len));
        self.cache_bytes += len;
        Ok(())
    }

    /// Lets go of the oldest cached entries; only what is durable, for the rest is not in its file.
    fn trim(&mut self) {
        let durable = self.durable.load(Ordering::Acquire);
        while self.cache_bytes > CACHE {
            let at = self.places.len().saturating_sub(self.cache.len());
            let Some(place) = self.places.get(at) else { break };
            if position(place.segment, place.offset) >= durable {
                break;
            }
            let Some((_, len)) = self.cache.pop_front() else { break };
            self.cache_bytes -= len;
        }
    }

    fn entry(&mut self, files: &dyn Files, index: u64, place: Place) -> io::Result<Entry> {
        if let Some((first, _)) = self.cache.front()
            && let Some(at) = index.checked_sub(first.log_id.index)
            && let Some((entry, _)) = self.cache.get(at as usize)
        {
            return Ok(entry.clone());
        }
        let file = match self.readers.get(&place.segment) {
            Some(file) => Arc::clone(file),
            None => {
                let file = files.open_for_reading(&segment::name(place.segment))?;
                self.readers.insert(place.segment, Arc::clone(&file));
                file
            }
        };
        let begin = place.offset - record::HEAD as u64;
        let mut bytes = vec![0; record::HEAD + place.len as usize];
        let whole = match file.read_at(&mut bytes, begin) {
            Ok(()) => checked(bytes.into(), place, begin),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err("a cut file".to_owned()),
            Err(error) => return Err(error),
        };
        whole.map_err(|what| {
            let name = files.path(&segment::name(place.segment));
            let text = format!(
                "entry {index} of the raft log has changed on disk: {what} ({}, byte {begin})",
                name.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    fn record_bytes(&self) {
        self.log_bytes.set(self.entry_bytes as f64);
    }

    fn truncate(&mut self, after: Option<u64>) {
        let keeps = |index: u64| after.is_some_and(|after| index <= after);
        while self.places.back().is_some_and(|place| !keeps(place.log_id.index)) {
            self.entry_bytes -= self.places.pop_back().map_or(0, |place| u64::from(place.len));
        }
        self.record_bytes();
        while let Some((entry, len)) = self.cache.back()
            && !keeps(entry.log_id.index)
        {
            self.cache_bytes -= len;
            self.cache.pop_back();
        }
    }

    /// Forgets entries up to the purge marker; gives the files that hold nothing else.
    fn forget(&mut self, purged: LogId) -> Vec<u64> {
        while self.places.front().is_some_and(|place| place.log_id.index <= purged.index) {
            self.entry_bytes -= self.places.pop_front().map_or(0, |place| u64::from(place.len));
        }
        self.record_bytes();
        while let Some((entry, len)) = self.cache.front()
            && entry.log_id.index <= purged.index
        {
            self.cache_bytes -= len;
            self.cache.pop_front();
        }
        let mut gone = Vec::new();
        while self.segments.len() > 1 && self.segments.front().is_some_and(|(_, high)| *high <= purged.index)
        {
            if let Some((number, _)) = self.segments.pop_front() {
                self.readers.remove(&number);
                gone.push(number);
            }
        }
        gone
    }
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
        let last = state.places.back().map(|place| place.log_id).or(state.purged);
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: last })
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
        state.trim();
        state.record_bytes();
        state.send(Job::Flushed(callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.synced(|state| {
            let after = last.map(|last| last.index);
            // Said first: a file that begins with it says what was there before.
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
        let gone = state.forget(log_id);
        if gone.is_empty() { Ok(()) } else { state.send(Job::Unlink(gone)) }
    }
}
