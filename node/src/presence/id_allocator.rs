//! Allocates ids: reserves blocks of them through the log and gives each out once.

use std::ops::Range;

use limes_raft::{ProposeError, Proposer};
use limes_routing::{Event, Verdict};
use parking_lot::Mutex;

/// Ids reserved at a time. Those that a restart leaves unused are lost; 64 bits allow for it.
const BLOCK: u32 = 1_024;

/// The ids of one kind that this node may give out.
#[derive(Debug, Default)]
pub(super) struct IdAllocator(Mutex<Vec<Range<u64>>>);

impl IdAllocator {
    fn take(&self) -> Option<u64> {
        let mut blocks = self.0.lock();
        loop {
            match blocks.last_mut()?.next() {
                Some(id) => return Some(id),
                None => drop(blocks.pop()),
            }
        }
    }

    fn put(&self, first: u64, count: u32) {
        let block = first..first.saturating_add(u64::from(count));
        self.0.lock().push(block);
    }

    /// The next id; reserves a block if none is left.
    ///
    /// # Errors
    /// The block could not be reserved.
    pub(super) async fn next(
        &self,
        proposer: &Proposer,
        reserve: impl Fn(u32) -> Event,
    ) -> Result<u64, ProposeError> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            if let Verdict::Ids { first, count } = proposer.submit(reserve(BLOCK)).await? {
                self.put(first, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_of_a_block_is_given_once_and_no_other() {
        let ids = IdAllocator::default();
        ids.put(10, 3);
        ids.put(20, 2);
        let mut all: Vec<u64> = std::iter::from_fn(|| ids.take()).collect();
        all.sort_unstable();
        assert_eq!(all, [10, 11, 12, 20, 21]);
        ids.put(u64::MAX - 1, 5);
        assert_eq!(std::iter::from_fn(|| ids.take()).count(), 1);
    }
}
