//! Opening a log: reading every record, and telling a torn tail from damage.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::files::Files;
use super::record::{self, At, Begin, Found, Kind};
use super::segment::{self, BEGINNING, Mark};
use crate::storage::codec::{DecodeError, Encode, decode};
use crate::types::{Entry, LogId, Vote};

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Bytes that were acknowledged have changed or are missing.
    #[error("the raft log is damaged: {what} ({}, byte {offset})", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// It is whole, but other software wrote it.
    #[error("the raft log was written by another version of limes, which must read it: {what} ({}, byte {offset})", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is not known.
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
    /// Which log it is.
    pub(super) id: u64,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) places: VecDeque<Place>,
    /// Files with the highest index that each holds.
    pub(super) segments: VecDeque<(u64, u64)>,
    pub(super) group: u32,
    /// The end of the last file's records.
    pub(super) end: u64,
    /// Where the last file is durable for certain.
    pub(super) sure: u64,
    /// The index of the newest entry, whether its file is still there or not.
    last: Option<u64>,
}

/// Reads all files. Removes those that hold nothing: one at the end whose first group was never
/// durable, and purged ones whose removal a crash has undone.
pub(super) fn replay(files: &dyn Files) -> Result<Replayed, OpenError> {
    let mark = Mark::read(files)?;
    let mut numbers = segment::list(files)?;
    if numbers.is_empty() && mark.is_none_or(|mark| mark == BEGINNING) {
        return Ok(Replayed::default());
    }
    if mark.is_none() {
        tracing::warn!(file = %files.path(segment::MARK).display(), "the log's high-water mark is missing or damaged: the log is taken only if its end is whole");
    }
    let log = Log { files, mark };
    if let Some(mark) = mark
        && numbers.last().is_none_or(|last| *last < mark.segment)
    {
        return Err(log.damaged(mark.segment, 0, "the newest file of the log is missing"));
    }
    // Files before a gap count only if they are leftovers: the rest says whether it lacks them.
    let gap = numbers.windows(2).rposition(|pair| pair[1] != pair[0] + 1).map_or(0, |at| at + 1);
    let before: Vec<u64> = numbers.drain(..gap).collect();
    let mut state = Replayed::default();
    let last = numbers.last().copied();
    for number in numbers {
        log.read(&mut state, number, Some(number) == last)?;
    }
    let first = state.segments.front().map_or(1, |(number, _)| *number);
    if let Some(missing) = state.missing() {
        return Err(log.damaged(first, 0, format!("{missing}, and so is the file that held them")));
    }
    for number in before {
        tracing::info!(number, "removing a file of the log that was purged before");
        files.remove(&segment::name(number))?;
    }
    if let Some(mark) =
        mark.filter(|mark| state.segments.back().is_some_and(|(last, _)| *last == mark.segment))
    {
        state.sure = mark.offset;
    }
    Ok(state)
}

struct Log<'a> {
    files: &'a dyn Files,
    mark: Option<Mark>,
}

impl Log<'_> {
    fn damaged(&self, segment: u64, offset: usize, what: impl Into<String>) -> OpenError {
        let file = self.files.path(&segment::name(segment));
        OpenError::Damaged { file, offset: offset as u64, what: what.into() }
    }

    fn read(&self, state: &mut Replayed, number: u64, is_last: bool) -> Result<(), OpenError> {
        let file = Bytes::from(self.files.read(&segment::name(number))?);
        let durable = match self.mark {
            Some(mark) if mark.segment == number => mark.offset as usize,
            // What an older file lacks at its end shows as a gap in the groups.
            _ => 0,
        };
        let certain = self.mark.is_some();
        let scan = Scan { log: self, file: &file, used: used(&file), number, durable, is_last, certain };
        let end = scan.run(state)?;
        if end == 0 {
            // Only the last file may hold nothing: a crash came before its first group was durable.
            if !is_last || state.segments.is_empty() && self.mark != Some(BEGINNING) {
                return Err(self.damaged(number, 0, "the file holds nothing"));
            }
            tracing::info!(number, "removing a file of the log that was never begun");
            return Ok(self.files.remove(&segment::name(number))?);
        }
        state.end = end as u64;
        Ok(())
    }
}

struct Scan<'a> {
    log: &'a Log<'a>,
    file: &'a Bytes,
    /// Behind them there are only zeros.
    used: usize,
    number: u64,
    /// Bytes that were acknowledged for certain.
    durable: usize,
    is_last: bool,
    /// Whether there is a mark, by which a torn tail can be told from a cut one.
    certain: bool,
}

/// Without a mark, an end that is not perfect may be a cut one.
const CUT: &str =
    "the log may have been cut here, and the high-water mark that would tell is missing or damaged";

/// Bytes of a file without the zeros at its end.
fn used(file: &[u8]) -> usize {
    const PAGE: usize = 4_096;
    let mut end = file.len();
    while end > 0 {
        let page = &file[end.saturating_sub(PAGE)..end];
        if *page != [0; PAGE][..page.len()] {
            return end - page.iter().rev().take_while(|byte| **byte == 0).count();
        }
        end -= page.len();
    }
    0
}

impl Scan<'_> {
    /// Takes all whole groups; gives where they end.
    fn run(&self, state: &mut Replayed) -> Result<usize, OpenError> {
        let (mut offset, mut end) = (0, 0);
        let mut group = Vec::new();
        loop {
            let what = match record::look(self.file, self.number, offset) {
                At::Record(found) => {
                    if (offset == 0) != (found.kind == Kind::Begin) {
                        return Err(self.damaged(offset, "the file does not begin as it should"));
                    }
                    let (at, is_last) = (offset, found.is_last);
                    offset += found.len();
                    group.push((at, found));
                    if is_last {
                        for (at, found) in group.drain(..) {
                            self.take(state, &found, at)?;
                        }
                        end = offset;
                    }
                    continue;
                }
                At::Unknown(what) => return Err(self.unknown(offset, what)),
                At::Nothing => "records are missing",
                At::Bad(what) => what,
            };
            self.check_end(state, end, offset, what)?;
            return Ok(end);
        }
    }

    fn damaged(&self, offset: usize, what: impl Into<String>) -> OpenError {
        self.log.damaged(self.number, offset, what)
    }

    fn unknown(&self, offset: usize, what: impl Into<String>) -> OpenError {
        let file = self.log.files.path(&segment::name(self.number));
        OpenError::Unknown { file, offset: offset as u64, what: what.into() }
    }

    /// Whether the groups may end at `end`, and something that is no record follow at `bad`: nothing
    /// acknowledged lies behind.
    fn check_end(&self, state: &Replayed, end: usize, bad: usize, what: &str) -> Result<(), OpenError> {
        if end < self.durable {
            return Err(self.damaged(bad, format!("{what} before the high-water mark at {}", self.durable)));
        }
        // What is bad belongs to the group after the last whole one: it was never acknowledged.
        let torn = state.group + 1;
        for offset in bad + 1..self.used {
            // Cheap looks first: a checksum at each byte of a large file would take hours.
            if !record::may_begin(&self.file[offset..], torn) {
                continue;
            }
            if let At::Record(found) = record::look(self.file, self.number, offset)
                && found.group > torn
            {
                let what = format!("{what}, but a later group follows at byte {offset}");
                return Err(self.damaged(bad, what));
            }
        }
        // A file that is not the last was left because it was full; its end is that of a group.
        if !self.is_last && bad > end {
            return Err(self.damaged(bad, format!("{what}: the file ends within a group")));
        }
        if self.is_last && !self.is_clear(end) {
            if !self.certain {
                return Err(self.damaged(bad, CUT));
            }
            let file = self.log.files.path(&segment::name(self.number));
            tracing::info!(file = %file.display(), byte = end, %what, "clearing a torn tail of the log, which was never acknowledged");
        }
        if self.is_last && !self.certain && (self.file.len() as u64) < self.log.files.segment_bytes() {
            return Err(self.damaged(bad, CUT));
        }
        Ok(())
    }

    fn is_clear(&self, end: usize) -> bool {
        self.used <= end
    }

    fn decode<T: Encode>(&self, found: &Found, offset: usize) -> Result<T, OpenError> {
        decode(found.payload.clone()).map_err(|error| match error {
            DecodeError::Unknown(..) => self.unknown(offset, error.to_string()),
            _ => self.damaged(offset, format!("a {:?} record without meaning: {error}", found.kind)),
        })
    }

    fn take(&self, state: &mut Replayed, found: &Found, offset: usize) -> Result<(), OpenError> {
        // Groups are consecutive: a gap means that records between have gone.
        if found.group < state.group || (state.group > 0 && found.group > state.group + 1) {
            let what = format!("group {} follows group {}", found.group, state.group);
            return Err(self.damaged(offset, what));
        }
        state.group = found.group;
        match found.kind {
            Kind::Begin => self.begin(state, self.decode(found, offset)?)?,
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

    /// Each file says what those before it came to.
    fn begin(&self, state: &mut Replayed, begin: Begin) -> Result<(), OpenError> {
        let Begin { id, vote, committed, purged, last } = begin;
        if state.segments.is_empty() {
            (state.id, state.last) = (id, last);
        } else if state.id != id {
            return Err(self.damaged(0, "the file belongs to another log"));
        } else if state.last != last {
            let said = |last: Option<u64>| last.map_or("none".to_owned(), |last| last.to_string());
            let what = format!(
                "the newest entry before this file should be {}, but is {}",
                said(last),
                said(state.last)
            );
            return Err(self.damaged(0, what));
        }
        state.segments.push_back((self.number, 0));
        state.vote = vote;
        state.committed = committed;
        if purged > state.purged {
            state.purge(purged);
        }
        Ok(())
    }

    fn push(&self, state: &mut Replayed, entry: &Entry, offset: usize, len: usize) -> Result<(), OpenError> {
        let log_id = entry.log_id;
        if let Some(last) = state.last
            && log_id.index != last + 1
        {
            let what = format!("entry {} follows entry {last}", log_id.index);
            return Err(self.damaged(offset, what));
        }
        state.last = Some(log_id.index);
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
        self.last = self.last.min(after);
    }

    fn purge(&mut self, purged: Option<LogId>) {
        self.purged = self.purged.max(purged);
        let Some(purged) = self.purged else { return };
        self.last = self.last.max(Some(purged.index));
        while self.places.front().is_some_and(|place| place.log_id.index <= purged.index) {
            self.places.pop_front();
        }
    }

    /// Entries that should be there, from behind the purge marker to the newest, and are not.
    fn missing(&self) -> Option<String> {
        let next = self.purged.map_or(0, |purged| purged.index + 1);
        let there = self.places.front().map(|place| place.log_id.index);
        match (there, self.last) {
            (Some(first), _) if first > next => Some(format!("entries {next} to {} are missing", first - 1)),
            (None, Some(last)) if last >= next => Some(format!("entries {next} to {last} are missing")),
            _ => None,
        }
    }
}
