//! Changes by position, for subscribers that follow the tables.
//!
//! A subscriber begins with the state, then reads the changes after its revision; if the changes that it needs were
//! dropped, it gets an error and begins again. Positions come from the log, so that a subscriber can continue at any
//! node.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::{Position, Revision};

/// The changes of one entry, in order; the index of a change is its ordinal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// The entry.
    pub revision: Revision,
    /// The changes.
    pub changes: Vec<T>,
}

impl<T> Entry<T> {
    /// The changes after a position, each with the position from which to continue; that of the last one is the end of
    /// the entry.
    pub fn after(&self, position: Position) -> impl Iterator<Item = (Position, &T)> {
        let revision = self.revision;
        let last = self.changes.len().saturating_sub(1);
        let at =
            move |ordinal: usize| Position { revision, ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX) };
        let next = move |ordinal| if ordinal == last { Position::end_of(revision) } else { at(ordinal) };
        let changes = self.changes.iter().enumerate();
        changes
            .filter(move |(ordinal, _)| at(*ordinal) > position)
            .map(move |(ordinal, c)| (next(ordinal), c))
    }
}

/// The changes up to this revision are no longer kept: begin again with the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes up to revision {0} are no longer kept; begin with the state")]
pub struct Compacted(pub Revision);

/// The latest entries with changes, bounded in bytes.
#[derive(Debug)]
pub struct Watch<T> {
    entries: VecDeque<(Arc<Entry<T>>, usize)>,
    bytes: usize,
    max: usize,
    /// All changes after this position are kept.
    from: Position,
    newest: Revision,
}

impl<T> Watch<T> {
    /// Keeps about `max` bytes of the changes after `revision`.
    pub fn new(revision: Revision, max: usize) -> Self {
        let from = Position::end_of(revision);
        Watch { entries: VecDeque::new(), bytes: 0, max, from, newest: revision }
    }

    /// Adds the changes of one entry, which take about `bytes` bytes.
    pub fn push(&mut self, revision: Revision, changes: Vec<T>, bytes: usize) {
        self.newest = revision;
        if changes.is_empty() {
            return;
        }
        let bytes = bytes + size_of::<Entry<T>>();
        self.entries.push_back((Arc::new(Entry { revision, changes }), bytes));
        self.bytes += bytes;
        while self.bytes > self.max {
            let Some((dropped, bytes)) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= bytes;
            self.from = Position::end_of(dropped.revision);
        }
    }

    /// Drops all changes: a snapshot has set the tables to this revision.
    pub fn reset(&mut self, revision: Revision) {
        *self = Watch::new(revision, self.max);
    }

    /// The newest entry that was added, with or without changes.
    pub fn newest(&self) -> Revision {
        self.newest
    }

    /// The entries with changes after a position, oldest first, without gap or repetition. The first may have changes
    /// before the position too: see [`Entry::after`].
    ///
    /// # Errors
    /// [`Compacted`] if some of them were dropped.
    pub fn after(&self, position: Position) -> Result<impl Iterator<Item = &Arc<Entry<T>>>, Compacted> {
        if position < self.from {
            return Err(Compacted(self.from.revision));
        }
        let begin = self.entries.partition_point(|(entry, _)| Position::end_of(entry.revision) <= position);
        Ok(self.entries.range(begin..).map(|(entry, _)| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: u64, ordinal: u32) -> Position {
        Position { revision: Revision(revision), ordinal }
    }

    /// All changes after a position, with the positions after them.
    fn read(watch: &Watch<u32>, from: Position) -> Vec<(Position, u32)> {
        let entries = watch.after(from).unwrap();
        entries.flat_map(|entry| entry.after(from).map(|(at, change)| (at, *change))).collect()
    }

    #[test]
    fn subscriber_resumes_at_any_position_without_gap_or_repetition() {
        let mut watch = Watch::new(Revision(5), 1 << 20);
        watch.push(Revision(6), vec![1, 2], 8);
        watch.push(Revision(7), vec![], 0);
        watch.push(Revision(8), vec![3, 4, 5], 8);
        watch.push(Revision(9), vec![6], 8);
        let all = read(&watch, Position::end_of(Revision(5)));
        assert_eq!(all.iter().map(|(_, change)| *change).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        for cut in 0..all.len() {
            assert_eq!(read(&watch, all[cut].0), all[cut + 1..], "after {}", all[cut].0);
        }
        // An entry without changes is a valid position too.
        assert_eq!(read(&watch, Position::end_of(Revision(7))), all[2..]);
        assert_eq!(watch.newest(), Revision(9));
        assert_eq!(read(&watch, at(8, 1)), all[4..]);
    }

    #[test]
    fn dropped_changes_are_reported_as_compacted() {
        let cost = 10 + size_of::<Entry<u32>>();
        let mut watch = Watch::new(Revision(0), cost * 3);
        for revision in 1..=5 {
            watch.push(Revision(revision), vec![0, 1], 10);
        }
        let compacted = Some(Compacted(Revision(2)));
        assert_eq!(watch.after(at(1, 0)).err(), compacted);
        assert_eq!(watch.after(at(2, 0)).err(), compacted);
        assert_eq!(read(&watch, Position::end_of(Revision(2))).len(), 6);
        watch.reset(Revision(9));
        assert!(watch.after(Position::end_of(Revision(8))).is_err());
        assert!(read(&watch, Position::end_of(Revision(9))).is_empty());
        // A single entry over the bound is not kept either.
        watch.push(Revision(10), vec![0], cost * 4);
        assert!(watch.after(Position::end_of(Revision(9))).is_err());
        assert!(watch.after(Position::end_of(Revision(10))).is_ok());
    }
}
