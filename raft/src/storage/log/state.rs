//! The log in memory: where each entry lies, the newest entries themselves, and the next position.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use bytes::Bytes;
use metrics::Gauge;

use super::files::{Files, LogFile};
use super::open::EntryLocation;
use super::record::{self, Begin, Kind, Parsed};
use super::segment;
use super::writer::{Command, position};
use crate::storage::codec::{Encode, decode, encode};
use crate::types::{Entry, LogId, Vote};

/// Bytes of the newest entries that stay in memory: followers and the state machine read these.
const CACHE: usize = 16 << 20;
/// Bytes that a file may be larger than the one record that does not fit an ordinary file.
const ROOM: u64 = 4_096;

/// What the log holds, and where the next record goes.
pub(super) struct State {
    pub(super) id: u64,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: VecDeque<EntryLocation>,
    /// The segments, each with the highest index in it.
    pub(super) segments: VecDeque<(u64, u64)>,
    /// The newest entries with their sizes; the last is the last of `entries`.
    pub(super) cache: VecDeque<(Entry, usize)>,
    pub(super) cache_bytes: usize,
    /// The segment that is being written.
    pub(super) segment: u64,
    /// The offset of the next record in it.
    pub(super) offset: u64,
    /// Bytes of that segment.
    pub(super) capacity: u64,
    /// Bytes of a new segment.
    pub(super) segment_bytes: u64,
    pub(super) readers: BTreeMap<u64, Arc<dyn LogFile>>,
    pub(super) commands: Sender<Command>,
    /// The durable [`position`].
    pub(super) durable: Arc<AtomicU64>,
    /// Bytes appended since the log was opened.
    pub(super) appended_bytes: u64,
    /// Bytes of all entries that the log holds.
    pub(super) entry_bytes: u64,
    pub(super) log_bytes: Gauge,
}

/// The error after the writer thread has ended.
pub(super) fn stopped() -> io::Error {
    io::Error::other("the writer of the raft log has stopped")
}

impl State {
    pub(super) fn send(&self, command: Command) -> io::Result<()> {
        self.commands.send(command).map_err(|_| stopped())
    }

    /// The newest log id, purged or not.
    pub(super) fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.purged)
    }

    /// Queues the header record of a file.
    pub(super) fn begin_file(&mut self) -> io::Result<()> {
        let begin = Begin {
            id: self.id,
            vote: self.vote,
            committed: self.committed,
            purged: self.purged,
            last: self.last().map(|last| last.index),
        };
        self.put(Kind::Begin, &begin)
    }

    /// Queues a record at the next position, in a new file if this one is full.
    pub(super) fn put(&mut self, kind: Kind, value: &impl Encode) -> io::Result<()> {
        self.put_bytes(kind, encode(value))
    }

    fn put_bytes(&mut self, kind: Kind, payload: Bytes) -> io::Result<()> {
        let len = (record::HEAD + payload.len()) as u64;
        if payload.len() >= record::PAYLOAD_MAX {
            return Err(io::Error::other("the entry is larger than the raft log can hold"));
        }
        if self.offset + len > self.capacity && kind != Kind::Begin {
            self.segment += 1;
            self.offset = 0;
            self.capacity = self.segment_bytes.max(len + ROOM);
            self.segments.push_back((self.segment, 0));
            self.send(Command::Roll { segment: self.segment, bytes: self.capacity })?;
            self.begin_file()?;
        }
        let offset = self.offset;
        self.offset += len;
        self.appended_bytes += len;
        self.send(Command::Record { offset, kind, payload })
    }

    pub(super) fn append(&mut self, entry: Entry) -> io::Result<()> {
        let payload = encode(&entry);
        let len = payload.len();
        self.put_bytes(Kind::Entry, payload)?;
        let log_id = entry.log_id;
        let offset = self.offset - len as u64;
        self.entries.push_back(EntryLocation { log_id, segment: self.segment, offset, len: len as u32 });
        self.entry_bytes += len as u64;
        if let Some((_, highest)) = self.segments.back_mut() {
            *highest = (*highest).max(log_id.index);
        }
        self.cache.push_back((entry, len));
        self.cache_bytes += len;
        Ok(())
    }

    /// Evicts the oldest cached entries, durable ones only: the others are not in their file yet.
    pub(super) fn trim_cache(&mut self) {
        let durable = self.durable.load(Ordering::Acquire);
        while self.cache_bytes > CACHE {
            let at = self.entries.len().saturating_sub(self.cache.len());
            let Some(oldest) = self.entries.get(at) else { break };
            if position(oldest.segment, oldest.offset) >= durable {
                break;
            }
            let Some((_, len)) = self.cache.pop_front() else { break };
            self.cache_bytes -= len;
        }
    }

    /// Reads one entry, from the cache or from its file.
    pub(super) fn read(
        &mut self,
        files: &dyn Files,
        index: u64,
        location: EntryLocation,
    ) -> io::Result<Entry> {
        if let Some((first, _)) = self.cache.front()
            && let Some(at) = index.checked_sub(first.log_id.index)
            && let Some((entry, _)) = self.cache.get(at as usize)
        {
            return Ok(entry.clone());
        }
        let file = match self.readers.get(&location.segment) {
            Some(file) => Arc::clone(file),
            None => {
                let file = files.open_for_reading(&segment::name(location.segment))?;
                self.readers.insert(location.segment, Arc::clone(&file));
                file
            }
        };
        let begin = location.offset - record::HEAD as u64;
        let mut bytes = vec![0; record::HEAD + location.len as usize];
        let entry = match file.read_at(&mut bytes, begin) {
            Ok(()) => check(bytes.into(), location, begin),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err("a truncated file".to_owned()),
            Err(error) => return Err(error),
        };
        entry.map_err(|what| {
            let name = files.path(&segment::name(location.segment));
            let text = format!(
                "entry {index} of the raft log has changed on disk: {what} ({}, byte {begin})",
                name.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    pub(super) fn report_bytes(&self) {
        self.log_bytes.set(self.entry_bytes as f64);
    }

    /// Forgets the entries after an index; all of them without one.
    pub(super) fn truncate(&mut self, after: Option<u64>) {
        let keeps = |index: u64| after.is_some_and(|after| index <= after);
        while self.entries.back().is_some_and(|entry| !keeps(entry.log_id.index)) {
            self.entry_bytes -= self.entries.pop_back().map_or(0, |entry| u64::from(entry.len));
        }
        while let Some((entry, len)) = self.cache.back()
            && !keeps(entry.log_id.index)
        {
            self.cache_bytes -= len;
            self.cache.pop_back();
        }
        self.report_bytes();
    }

    /// Forgets the entries up to the purge marker; returns the segments that hold nothing else.
    pub(super) fn forget(&mut self, purged: LogId) -> Vec<u64> {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= purged.index) {
            self.entry_bytes -= self.entries.pop_front().map_or(0, |entry| u64::from(entry.len));
        }
        while let Some((entry, len)) = self.cache.front()
            && entry.log_id.index <= purged.index
        {
            self.cache_bytes -= len;
            self.cache.pop_front();
        }
        let mut unused = Vec::new();
        while self.segments.len() > 1 && self.segments.front().is_some_and(|(_, high)| *high <= purged.index)
        {
            if let Some((number, _)) = self.segments.pop_front() {
                self.readers.remove(&number);
                unused.push(number);
            }
        }
        self.report_bytes();
        unused
    }
}

/// The entry that a record holds. A record that was valid when the log was opened may have changed since; it
/// must not be sent to other members, which would store it with a fresh checksum.
fn check(record: Bytes, location: EntryLocation, begin: u64) -> Result<Entry, String> {
    match record::parse(&record, location.segment, begin) {
        Parsed::Record(found) if found.kind == Kind::Entry => {
            let entry: Entry = decode(found.payload).map_err(|error| error.to_string())?;
            if entry.log_id == location.log_id { Ok(entry) } else { Err("another entry".to_owned()) }
        }
        Parsed::Record(_) | Parsed::Nothing => Err("no record, or another one".to_owned()),
        Parsed::Bad(what) => Err(what.to_owned()),
        Parsed::Unknown(what) => Err(what),
    }
}
