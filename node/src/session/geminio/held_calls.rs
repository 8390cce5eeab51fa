//! Calls that wait until the edge has registered the method.

use crate::router::message::{Key, Request};

/// Calls that may wait for one edge.
const HELD_MAX: usize = 1_024;
/// Their bytes.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Calls that wait for one edge, in their order.
#[derive(Debug, Default)]
pub(super) struct HeldCalls {
    calls: Vec<Request>,
    bytes: usize,
}

fn bytes(call: &Request) -> usize {
    call.name.len() + call.custom.len() + call.body.len()
}

impl HeldCalls {
    /// Whether no call waits.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether this call may wait too.
    pub(super) fn has_room(&self, call: &Request) -> bool {
        self.calls.len() < HELD_MAX && self.bytes + bytes(call) <= HELD_BYTES_MAX
    }

    /// Appends a call.
    pub(super) fn push(&mut self, call: Request) {
        self.bytes += bytes(&call);
        self.calls.push(call);
    }

    /// Takes the calls for which `which` holds.
    pub(super) fn take(&mut self, which: impl Fn(&Request) -> bool) -> Vec<Request> {
        let (taken, rest) = std::mem::take(self).calls.into_iter().partition(&which);
        Vec::into_iter(rest).for_each(|call| self.push(call));
        taken
    }

    /// Ends a call that its caller has cancelled; false: it is not here.
    pub(super) fn cancel(&mut self, key: Key) -> bool {
        let cancelled = self.take(|call| call.key() == key);
        cancelled.iter().for_each(Request::fail_cancelled);
        !cancelled.is_empty()
    }
}
