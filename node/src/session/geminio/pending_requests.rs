//! The requests of the peer, and which answer it expects.
//!
//! A Go program that repeats a request with the same object also repeats the packet's id, after its own timeout or because
//! it expects no answer. Like the reference, the session forwards each under an id of its own.

use std::collections::HashMap;

use limes_wire::Str;

/// What the answer to a request needs to know about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PendingRequest {
    /// The packet's id, which the answer repeats.
    pub(super) id: u64,
    /// Method or topic; the answer to a call repeats it.
    pub(super) name: Str,
    /// The deadline was set by the peer, not by the node.
    pub(super) has_own_deadline: bool,
}

/// Requests that are not answered yet, by the session's own numbers.
#[derive(Debug, Default)]
pub(super) struct PendingRequests {
    last: u64,
    open: HashMap<u64, PendingRequest>,
    /// The newest request under each packet id.
    newest: HashMap<u64, u64>,
}

impl PendingRequests {
    /// Adds a request and returns its number.
    pub(super) fn insert(&mut self, request: PendingRequest) -> u64 {
        self.last += 1;
        self.newest.insert(request.id, self.last);
        self.open.insert(self.last, request);
        self.last
    }

    /// The number of the newest request under a packet id.
    pub(super) fn newest(&self, id: u64) -> Option<u64> {
        self.newest.get(&id).copied()
    }

    /// Removes a request that has ended, and returns whether the peer expects its answer. Under one packet id it expects
    /// only that of the newest request, and would take any other answer for it.
    pub(super) fn take(&mut self, no: u64) -> Option<(PendingRequest, bool)> {
        let request = self.open.remove(&no)?;
        let is_newest = self.newest.get(&request.id) == Some(&no);
        if is_newest {
            self.newest.remove(&request.id);
        }
        Some((request, is_newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64) -> PendingRequest {
        PendingRequest { id, ..PendingRequest::default() }
    }

    #[test]
    fn only_the_newest_request_under_an_id_is_answered() {
        let mut pending = PendingRequests::default();
        let (first, other, second) =
            (pending.insert(request(7)), pending.insert(request(8)), pending.insert(request(7)));
        assert_eq!((pending.newest(7), pending.newest(8)), (Some(second), Some(other)));
        assert_eq!(pending.take(first), Some((request(7), false)));
        assert_eq!(pending.take(second), Some((request(7), true)));
        assert_eq!(pending.take(second), None);
        assert_eq!(pending.take(other), Some((request(8), true)));
    }

    #[test]
    fn an_older_request_that_ends_last_is_not_answered_either() {
        let mut pending = PendingRequests::default();
        let (first, second) = (pending.insert(request(7)), pending.insert(request(7)));
        assert_eq!(pending.take(second), Some((request(7), true)));
        assert_eq!(pending.take(first), Some((request(7), false)));
        assert!(pending.open.is_empty() && pending.newest.is_empty());
    }
}
