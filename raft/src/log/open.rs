//! Opening a log: reading every record, and telling a torn tail from damage.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::record::{self, At, Found, Kind};
use super::segment::{self, Mark};
use crate::types::{Entry, LogId, Vote};

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Bytes that were acknowledged have changed or are missing.
    #[error("the raft log is damaged: {what} ({file}, byte {offset})")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The disk failed.
    #[error("the raft log cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// Where an entry's payload lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) log_id: LogId,
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// What the records add up to.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) places: VecDeque<Place>,
    /// Files with the highest index that each holds.
    pub(super) segments: VecDeque<(u64, u64)>,
    pub(super) group: u32,
    /// The end of the last file's records.
    pub(super) end: u64,
}

/// The payload of [`Kind::Begin`].
pub(super) type Begin = (Option<Vote>, Option<LogId>, Option<LogId>);

fn damaged(dir: &Path, segment: u64, offset: usize, what: impl Into<String>) -> OpenError {
    OpenError::Damaged { file: segment::path(dir, segment), offset: offset as u64, what: what.into() }
}

/// Reads all files.
pub(super) fn replay(dir: &Path) -> Result<Replayed, OpenError> {
    let mark = Mark::read(dir);
    let mut numbers = segment::list(dir)?;
    let mut state = Replayed::default();
    // A file that was made but whose first group never became durable holds nothing.
    if let Some(last) = numbers.last().copied()
        && mark.is_none_or(|mark| mark.segment < last)
        && !matches!(record::look(&std::fs::read(segment::path(dir, last))?, last, 0), At::Record(_))
        && numbers.len() > 1
    {
        std::fs::remove_file(segment::path(dir, last))?;
        numbers.pop();
    }
    if let Some(mark) = mark
        && numbers.last().is_none_or(|last| *last < mark.segment)
    {
        return Err(damaged(dir, mark.segment, 0, "the newest file of the log is missing"));
    }
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(damaged(dir, pair[0] + 1, 0, "a file of the log is missing"));
        }
    }
    let last = numbers.last().copied();
    for number in numbers {
        let file = std::fs::read(segment::path(dir, number))?;
        let durable = match mark {
            Some(mark) if mark.segment == number => mark.offset as usize,
            // What an older file lacks at its end shows as a gap in the groups.
            _ => 0,
        };
        let scan = Scan { dir, file: &file, number, durable, is_last: Some(number) == last };
        scan.run(&mut state)?;
    }
    check_first(dir, &state)?;
    Ok(state)
}

/// Entries begin right behind the purge marker.
fn check_first(dir: &Path, state: &Replayed) -> Result<(), OpenError> {
    let next = state.purged.map_or(0, |purged| purged.index + 1);
    match state.places.front() {
        Some(first) if first.log_id.index > next => {
            let what = format!("entries {next} to {} are missing", first.log_id.index - 1);
            Err(damaged(dir, first.segment, first.offset as usize, what))
        }
        _ => Ok(()),
    }
}

struct Scan<'a> {
    dir: &'a Path,
    file: &'a [u8],
    number: u64,
    /// Bytes that were acknowledged for certain.
    durable: usize,
    is_last: bool,
}

impl Scan<'_> {
    fn run(&self, state: &mut Replayed) -> Result<(), OpenError> {
        state.segments.push_back((self.number, 0));
        let mut offset = 0;
        let mut ended_group = true;
        loop {
            match record::look(self.file, self.number, offset) {
                At::Record(found) => {
                    if offset == 0 && found.kind != Kind::Begin {
                        return Err(self.damaged(0, "the file does not begin as it should"));
                    }
                    self.take(state, &found, offset)?;
                    offset += found.len();
                    ended_group = found.is_last;
                }
                At::Nothing => {
                    self.check_end(state, offset, ended_group, "records are missing")?;
                    break;
                }
                At::Bad(what) => {
                    self.check_end(state, offset, ended_group, what)?;
                    break;
                }
            }
        }
        state.end = offset as u64;
        Ok(())
    }

    fn damaged(&self, offset: usize, what: impl Into<String>) -> OpenError {
        damaged(self.dir, self.number, offset, what)
    }

    /// Whether the records may end here: nothing acknowledged lies behind.
    fn check_end(&self, state: &Replayed, end: usize, ended: bool, what: &str) -> Result<(), OpenError> {
        if end < self.durable {
            return Err(self.damaged(end, format!("{what} before the high-water mark at {}", self.durable)));
        }
        // What is bad belongs to the group after the last whole one, or to the last one itself.
        let torn = if ended { state.group + 1 } else { state.group };
        for offset in end + 1..self.file.len() {
            // Cheap looks first: a checksum at each byte of a large file would take hours.
            if !record::may_begin(&self.file[offset..], torn) {
                continue;
            }
            if let At::Record(found) = record::look(self.file, self.number, offset)
                && found.group > torn
            {
                let what = format!("{what}, but a later group follows at byte {offset}");
                return Err(self.damaged(end, what));
            }
        }
        // A file that is not the last was left because it was full; its end is that of a group.
        if !self.is_last && !ended {
            return Err(self.damaged(end, format!("{what}: the file ends within a group")));
        }
        Ok(())
    }

    fn decode<T: DeserializeOwned>(&self, found: &Found<'_>, offset: usize) -> Result<T, OpenError> {
        bincode::deserialize(found.payload).map_err(|error| {
            self.damaged(offset, format!("a {:?} record without meaning: {error}", found.kind))
        })
    }

    fn take(&self, state: &mut Replayed, found: &Found<'_>, offset: usize) -> Result<(), OpenError> {
        // Groups are consecutive: a gap means that records between have gone.
        if found.group < state.group || (state.group > 0 && found.group > state.group + 1) {
            let what = format!("group {} follows group {}", found.group, state.group);
            return Err(self.damaged(offset, what));
        }
        state.group = found.group;
        match found.kind {
            Kind::Begin => {
                let (vote, committed, purged): Begin = self.decode(found, offset)?;
                state.vote = vote;
                state.committed = committed;
                if purged > state.purged {
                    state.purge(purged);
                }
            }
            Kind::Vote => state.vote = Some(self.decode(found, offset)?),
            Kind::Committed => state.committed = Some(self.decode(found, offset)?),
            Kind::Truncate => {
                let after: Option<u64> = self.decode(found, offset)?;
                state.truncate(after);
            }
            Kind::Purge => {
                let purged: LogId = self.decode(found, offset)?;
                state.purge(Some(purged));
            }
            Kind::Entry => {
                let entry: Entry = self.decode(found, offset)?;
                self.push(state, &entry, offset, found.payload.len())?;
            }
        }
        Ok(())
    }

    fn push(&self, state: &mut Replayed, entry: &Entry, offset: usize, len: usize) -> Result<(), OpenError> {
        let log_id = entry.log_id;
        if let Some(last) = state.places.back()
            && log_id.index != last.log_id.index + 1
        {
            let what = format!("entry {} follows entry {}", log_id.index, last.log_id.index);
            return Err(self.damaged(offset, what));
        }
        if let Some((_, highest)) = state.segments.back_mut() {
            *highest = (*highest).max(log_id.index);
        }
        if state.purged.is_some_and(|purged| log_id.index <= purged.index) {
            return Ok(());
        }
        let offset = (offset + record::HEAD) as u64;
        state.places.push_back(Place { log_id, segment: self.number, offset, len: len as u32 });
        Ok(())
    }
}

impl Replayed {
    fn truncate(&mut self, after: Option<u64>) {
        while self.places.back().is_some_and(|place| after.is_none_or(|after| place.log_id.index > after)) {
            self.places.pop_back();
        }
    }

    fn purge(&mut self, purged: Option<LogId>) {
        self.purged = self.purged.max(purged);
        let Some(purged) = self.purged else { return };
        while self.places.front().is_some_and(|place| place.log_id.index <= purged.index) {
            self.places.pop_front();
        }
    }
}
