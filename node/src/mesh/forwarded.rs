//! The requests that this node has sent over a link and that have not ended yet.

use std::collections::HashMap;
use std::time::Instant;

use limes_wire::Code;

use crate::router::message::{Destination, Failure, Key, Request};

/// Requests by their number on the link. Owned by the link's task.
#[derive(Debug, Default)]
pub(super) struct ForwardedRequests {
    last: u64,
    requests: HashMap<u64, Box<Request>>,
    by_key: HashMap<Key, u64>,
    /// Sessions of the other node that are over, and when their requests are failed.
    ended: Vec<(Instant, Destination, Code)>,
}

impl ForwardedRequests {
    /// A number that was not used on this link before.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Adds a request that is sent under this number.
    pub(super) fn insert(&mut self, id: u64, request: Box<Request>) {
        self.by_key.insert(request.key(), id);
        self.requests.insert(id, request);
    }

    /// The number of a request.
    pub(super) fn id_of(&self, key: Key) -> Option<u64> {
        self.by_key.get(&key).copied()
    }

    /// Removes a request that has ended.
    pub(super) fn take(&mut self, id: u64) -> Option<Box<Request>> {
        let request = self.requests.remove(&id)?;
        self.by_key.remove(&request.key());
        Some(request)
    }

    /// Fails all requests: they may have run.
    pub(super) fn fail_all(&mut self, text: &str) {
        self.by_key.clear();
        for (_, request) in self.requests.drain() {
            request.fail(Failure::may_have_run(Code::GONE, text));
        }
    }

    /// A session of the other node is over: its requests are failed at `at` unless the other node has ended them by then.
    /// False: it has none.
    pub(super) fn session_over(&mut self, at: Instant, destination: Destination, code: Code) -> bool {
        let has_some = self.requests.values().any(|request| request.to.destination() == Some(destination));
        if has_some {
            self.ended.push((at, destination, code));
        }
        has_some
    }

    /// Fails the requests of ended sessions whose time has come; returns the next such time.
    pub(super) fn fail_ended(&mut self, now: Instant) -> Option<Instant> {
        let due: Vec<_> = self.ended.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, destination, code) in due {
            let requests = self.requests.iter();
            let of_session = requests.filter(|(_, request)| request.to.destination() == Some(destination));
            let ids: Vec<u64> = of_session.map(|(id, _)| *id).collect();
            for request in ids.into_iter().filter_map(|id| self.take(id)) {
                let text = "the receiver's session is over, and its node does not answer";
                request.fail(Failure::may_have_run(code, text));
            }
        }
        self.ended.first().map(|(at, ..)| *at)
    }
}
