//! Changes by position, for those who follow the tables.
//!
//! A follower begins with the state, then reads changes from its revision on; when the changes it
//! needs have been dropped it is told so and begins again.

use std::collections::VecDeque;

use crate::effect::Effect;
use crate::id::{Position, Revision};

/// One change at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The entry and the ordinal of the change in it.
    pub at: Position,
    /// What changed.
    pub effect: Effect,
}

/// The changes before this position are not kept any more: begin again with the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes up to revision {0} are no longer kept; begin with the state")]
pub struct Compacted(pub Revision);

/// The latest changes, bounded in bytes.
#[derive(Debug)]
pub struct Watch {
    changes: VecDeque<Change>,
    bytes: usize,
    max: usize,
    /// Every change after this revision is kept.
    from: Revision,
    newest: Revision,
}

/// What one change is counted for, in bytes; strings in it are short.
const COST: usize = std::mem::size_of::<Change>() + 32;

impl Watch {
    /// Keeps about `max` bytes of changes that come after `revision`.
    pub fn new(revision: Revision, max: usize) -> Self {
        Watch { changes: VecDeque::new(), bytes: 0, max, from: revision, newest: revision }
    }

    /// Notes the effects of one entry.
    pub fn push(&mut self, revision: Revision, effects: &[Effect]) {
        self.newest = revision;
        for (ordinal, effect) in effects.iter().enumerate() {
            let at = Position { revision, ordinal: ordinal as u32 };
            self.changes.push_back(Change { at, effect: effect.clone() });
            self.bytes += COST;
        }
        while self.bytes > self.max {
            let Some(dropped) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= COST;
            self.from = dropped.at.revision;
        }
    }

    /// Forgets all: the tables have jumped to this revision.
    pub fn reset(&mut self, revision: Revision) {
        *self = Watch::new(revision, self.max);
    }

    /// The newest entry that has been noted.
    pub fn newest(&self) -> Revision {
        self.newest
    }

    /// The changes after a position, in order, without gap or repeat.
    ///
    /// # Errors
    /// [`Compacted`] if some of them are gone.
    pub fn after(&self, position: Position) -> Result<impl Iterator<Item = &Change>, Compacted> {
        let whole = position.revision > self.from
            || (position.revision == self.from
                && self.changes.front().is_none_or(|c| c.at.revision > self.from));
        if !whole {
            return Err(Compacted(self.from));
        }
        Ok(self.changes.iter().filter(move |change| change.at > position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ServiceId;

    fn effects(count: u64) -> Vec<Effect> {
        (0..count).map(|n| Effect::NamesChanged { service: ServiceId(n) }).collect()
    }

    #[test]
    fn resumes_without_gap_or_repeat() {
        let mut watch = Watch::new(Revision(5), 1 << 20);
        watch.push(Revision(6), &effects(2));
        watch.push(Revision(8), &effects(3));
        let begin = Position { revision: Revision(5), ordinal: u32::MAX };
        let all: Vec<Position> = watch.after(begin).unwrap().map(|c| c.at).collect();
        for cut in 0..all.len() {
            let rest: Vec<Position> = watch.after(all[cut]).unwrap().map(|c| c.at).collect();
            assert_eq!(rest, all[cut + 1..]);
        }
    }

    #[test]
    fn says_when_changes_are_gone() {
        let mut watch = Watch::new(Revision(0), COST * 3);
        for revision in 1..=5 {
            watch.push(Revision(revision), &effects(1));
        }
        let old = Position { revision: Revision(1), ordinal: 0 };
        assert_eq!(watch.after(old).err(), Some(Compacted(Revision(2))));
        let kept = Position { revision: Revision(2), ordinal: 0 };
        assert_eq!(watch.after(kept).unwrap().count(), 3);
    }
}
