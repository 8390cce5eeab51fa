//! Opening a log: replaying every record, and telling a torn tail from damage.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;

use super::files::Files;
use super::record::{self, Begin, Kind, Parsed, Record};
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
        /// The byte in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// It is whole, but another version wrote it.
    #[error("the raft log was written by another version of limes and can only be read by that version: {what} ({}, byte {offset})", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The byte in it.
        offset: u64,
        /// What this version does not know.
        what: String,
    },
    /// The disk failed.
    #[error("the raft log cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// Where the payload of an entry lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryLocation {
    pub(super) log_id: LogId,
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// The state that the records add up to.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// The id of the log.
    pub(super) id: u64,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: VecDeque<EntryLocation>,
    /// The segments, each with the highest index in it.
    pub(super) segments: VecDeque<(u64, u64)>,
    pub(super) group: u32,
    /// Where the records of the last segment end.
    pub(super) end: u64,
    /// Up to where the last segment is certainly durable.
    pub(super) durable_offset: u64,
    /// The index of the newest entry, whether its file still exists or not.
    last: Option<u64>,
}

/// Reads all segments. Removes segments that hold nothing: a last one whose first group was never durable,
/// and purged ones whose removal was undone by a crash.
///
/// # Errors
/// The log is damaged or was written by another version, or the disk failed.
pub(super) fn replay(files: &dyn Files) -> Result<Replayed, OpenError> {
    let mark = Mark::read(files)?;
    let mut numbers = segment::list(files)?;
    if numbers.is_empty() && mark.is_none_or(|mark| mark == BEGINNING) {
        return Ok(Replayed::default());
    }
    if mark.is_none() {
        tracing::warn!(file = %files.path(segment::MARK).display(), "the high-water mark of the raft log is missing or damaged: the log is accepted only if its end is intact");
    }
    let log = Log { files, mark };
    if let Some(mark) = mark
        && numbers.last().is_none_or(|last| *last < mark.segment)
    {
        return Err(log.damaged(mark.segment, 0, "the newest file of the log is missing"));
    }
    // Files before a gap must be leftovers of a purge: the headers behind the gap tell whether they are.
    let gap = numbers.windows(2).rposition(|pair| pair[1] != pair[0] + 1).map_or(0, |at| at + 1);
    let before: Vec<u64> = numbers.drain(..gap).collect();
    let mut state = Replayed::default();
    let last = numbers.last().copied();
    for number in numbers {
        log.read(&mut state, number, Some(number) == last)?;
    }
    let first = state.segments.front().map_or(1, |(number, _)| *number);
    if let Some(missing) = state.missing() {
        return Err(log.damaged(first, 0, format!("{missing}, and the file that held them is missing too")));
    }
    for number in before {
        tracing::info!(number, "removing a file of the raft log that was purged earlier");
        files.remove(&segment::name(number))?;
    }
    if let Some(mark) =
        mark.filter(|mark| state.segments.back().is_some_and(|(last, _)| *last == mark.segment))
    {
        state.durable_offset = mark.offset;
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
            // Records missing at the end of an older file show up as a gap in the groups.
            _ => 0,
        };
        let has_mark = self.mark.is_some();
        let scan = Scan { log: self, file: &file, used: used(&file), number, durable, is_last, has_mark };
        let end = scan.run(state)?;
        if end == 0 {
            // Only the last file may hold nothing, after a crash before its first group was durable.
            if !is_last || state.segments.is_empty() && self.mark != Some(BEGINNING) {
                return Err(self.damaged(number, 0, "the file holds no records"));
            }
            tracing::info!(number, "removing an empty file of the raft log");
            return Ok(self.files.remove(&segment::name(number))?);
        }
        state.end = end as u64;
        Ok(())
    }
}

struct Scan<'a> {
    log: &'a Log<'a>,
    file: &'a Bytes,
    /// Bytes in front of the trailing zeros.
    used: usize,
    number: u64,
    /// Bytes that were certainly acknowledged.
    durable: usize,
    is_last: bool,
    /// Whether there is a mark; only a mark tells a torn tail from a truncated file.
    has_mark: bool,
}

/// Why an imperfect end is not accepted without a mark.
const MAYBE_TRUNCATED: &str =
    "the log may have been truncated here, and the high-water mark that would tell is missing or damaged";

/// Bytes of a file without its trailing zeros.
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
    /// Replays all complete groups; returns where they end.
    fn run(&self, state: &mut Replayed) -> Result<usize, OpenError> {
        let (mut offset, mut end) = (0, 0);
        let mut group = Vec::new();
        loop {
            let what = match record::parse_at(self.file, self.number, offset) {
                Parsed::Record(found) => {
                    if (offset == 0) != (found.kind == Kind::Begin) {
                        return Err(self.damaged(offset, "the file does not begin with its header"));
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
                Parsed::Unknown(what) => return Err(self.unknown(offset, what)),
                Parsed::Nothing => "records are missing",
                Parsed::Bad(what) => what,
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

    /// Checks that the groups may end at `end` with invalid bytes at `bad`: nothing acknowledged may lie
    /// behind.
    fn check_end(&self, state: &Replayed, end: usize, bad: usize, what: &str) -> Result<(), OpenError> {
        if end < self.durable {
            return Err(self.damaged(bad, format!("{what} before the high-water mark at {}", self.durable)));
        }
        // The invalid bytes belong to the group after the last complete one, which was never acknowledged.
        let torn = state.group + 1;
        for offset in bad + 1..self.used {
            // The cheap test first: a checksum at each byte of a large file would take hours.
            if !record::may_be_record(&self.file[offset..], torn) {
                continue;
            }
            if let Parsed::Record(found) = record::parse_at(self.file, self.number, offset)
                && found.group > torn
            {
                let what = format!("{what}, but a later group follows at byte {offset}");
                return Err(self.damaged(bad, what));
            }
        }
        // The writer leaves a file at the end of a group.
        if !self.is_last && bad > end {
            return Err(self.damaged(bad, format!("{what}: the file ends within a group")));
        }
        if self.is_last && !self.is_clear(end) {
            if !self.has_mark {
                return Err(self.damaged(bad, MAYBE_TRUNCATED));
            }
            let file = self.log.files.path(&segment::name(self.number));
            tracing::info!(file = %file.display(), byte = end, %what, "clearing a torn tail of the raft log, which was never acknowledged");
        }
        if self.is_last && !self.has_mark && (self.file.len() as u64) < self.log.files.segment_bytes() {
            return Err(self.damaged(bad, MAYBE_TRUNCATED));
        }
        Ok(())
    }

    fn is_clear(&self, end: usize) -> bool {
        self.used <= end
    }

    fn decode<T: Encode>(&self, found: &Record, offset: usize) -> Result<T, OpenError> {
        decode(found.payload.clone()).map_err(|error| match error {
            DecodeError::Unknown(..) => self.unknown(offset, error.to_string()),
            _ => self.damaged(offset, format!("a {:?} record cannot be decoded: {error}", found.kind)),
        })
    }

    fn take(&self, state: &mut Replayed, found: &Record, offset: usize) -> Result<(), OpenError> {
        // Groups are consecutive: a gap means that records are missing in between.
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

    /// Compares the header of a file with the state at the end of the files before.
    fn begin(&self, state: &mut Replayed, begin: Begin) -> Result<(), OpenError> {
        let Begin { id, vote, committed, purged, last } = begin;
        if state.segments.is_empty() {
            (state.id, state.last) = (id, last);
        } else if state.id != id {
            return Err(self.damaged(0, "the file belongs to another log"));
        } else if state.last != last {
            let text = |last: Option<u64>| last.map_or("none".to_owned(), |last| last.to_string());
            let what = format!(
                "the newest entry before this file should be {}, but is {}",
                text(last),
                text(state.last)
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
        state.entries.push_back(EntryLocation { log_id, segment: self.number, offset, len: len as u32 });
        Ok(())
    }
}

impl Replayed {
    fn truncate(&mut self, after: Option<u64>) {
        while self.entries.back().is_some_and(|entry| after.is_none_or(|after| entry.log_id.index > after)) {
            self.entries.pop_back();
        }
        self.last = self.last.min(after);
    }

    fn purge(&mut self, purged: Option<LogId>) {
        self.purged = self.purged.max(purged);
        let Some(purged) = self.purged else { return };
        self.last = self.last.max(Some(purged.index));
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= purged.index) {
            self.entries.pop_front();
        }
    }

    /// Describes entries that are missing between the purge marker and the newest entry.
    fn missing(&self) -> Option<String> {
        let next = self.purged.map_or(0, |purged| purged.index + 1);
        let oldest = self.entries.front().map(|entry| entry.log_id.index);
        match (oldest, self.last) {
            (Some(first), _) if first > next => Some(format!("entries {next} to {} are missing", first - 1)),
            (None, Some(last)) if last >= next => Some(format!("entries {next} to {last} are missing")),
            _ => None,
        }
    }
}
