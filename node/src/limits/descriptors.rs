//! The budget of file descriptors: peers may not use those that the node needs for its log and its own connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

/// Descriptors for the log, the history, and the connections that this node dials.
const OWN: usize = 256;
/// The share of the rest, as a divisor, that each port of operators or other nodes may use.
const PART: usize = 16;
/// Ports of operators and other nodes, the mesh port counted twice: before and after the handshake.
const PARTS: usize = 5;
/// The most connections of one such port, however many descriptors there are.
const PART_MAX: usize = 1_024;

/// Raises the limit of open files of this process as far as it may.
pub(crate) fn raise() {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => {
            if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
                warn!(%error, "cannot raise the limit of open files");
            }
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "cannot read the limit of open files"),
    }
}

/// The descriptors that connections of peers may use.
#[derive(Debug)]
pub(crate) struct DescriptorBudget {
    most: usize,
    open: AtomicUsize,
}

impl DescriptorBudget {
    /// The budget under the limit of this process.
    pub(crate) fn of_process() -> Arc<Self> {
        let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft);
        let files = DescriptorBudget::new(usize::try_from(most).unwrap_or(usize::MAX));
        info!(most, connections = files.room(), "open files");
        files
    }

    /// The budget under a limit of `most` descriptors.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(DescriptorBudget { most, open: AtomicUsize::new(0) })
    }

    /// How many connections a port of operators or of other nodes may have.
    pub(crate) fn part(&self) -> usize {
        (self.most.saturating_sub(OWN) / PART).clamp(1, PART_MAX)
    }

    /// How many connections edges and services may have together.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(OWN + PARTS * self.part())
    }

    /// Takes a descriptor for an edge or a service, if one is left.
    pub(crate) fn take(self: &Arc<Self>) -> Option<File> {
        let more = |open| (open < self.room()).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| File(self.clone()))
    }
}

/// One descriptor of the budget, returned when it is dropped.
#[derive(Debug)]
pub(crate) struct File(Arc<DescriptorBudget>);

impl Drop for File {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_leave_the_node_the_descriptors_that_it_needs() {
        for most in [0, 100, 300, 1_024, 20_000, 1 << 20] {
            let files = DescriptorBudget::new(most);
            assert!(files.room() + PARTS * files.part() + OWN <= most.max(OWN + PARTS), "{files:?}");
        }
        let files = DescriptorBudget::new(1_024);
        assert_eq!((files.part(), files.room()), (48, 528));
        assert_eq!(DescriptorBudget::new(1 << 20).part(), PART_MAX);
        let mut taken: Vec<File> = std::iter::from_fn(|| files.take()).collect();
        assert_eq!(taken.len(), 528);
        taken.pop();
        assert!(files.take().is_some());
    }
}
