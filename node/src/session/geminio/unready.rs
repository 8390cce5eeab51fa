//! Calls to an edge that has just come and does not know its own methods yet.
//!
//! A client of the reference registers its methods a second after it was accepted, one by one, and answers
//! `no such rpc` until then. So a call of a method that is not registered yet waits for that long.

use std::time::{Duration, Instant};

use limes_wire::Str;
use limes_wire::driver::GeminioCx;
use limes_wire::frame::Role;

use super::{Session, State, calls};
use crate::router::message::{Key, Kind, Request};

/// How long an edge may take to register its methods: the second that its client waits, and one more.
const READY: Duration = Duration::from_secs(2);
/// Calls that may wait for one edge; others are delivered at once.
const WAITING_MAX: usize = 1_024;
/// Their bytes.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Calls that wait for one edge, in their order.
#[derive(Debug, Default)]
pub(super) struct Unready {
    calls: Vec<Request>,
    bytes: usize,
}

fn bytes(call: &Request) -> usize {
    call.name.len() + call.custom.len() + call.body.len()
}

impl Unready {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    fn has_room(&self, call: &Request) -> bool {
        self.calls.len() < WAITING_MAX && self.bytes + bytes(call) <= WAITING_BYTES_MAX
    }

    fn push(&mut self, call: Request) {
        self.bytes += bytes(&call);
        self.calls.push(call);
    }

    /// Takes those for which this holds.
    pub(super) fn take(&mut self, which: impl Fn(&Request) -> bool) -> Vec<Request> {
        let (taken, rest) = std::mem::take(self).calls.into_iter().partition(&which);
        Vec::into_iter(rest).for_each(|call| self.push(call));
        taken
    }

    /// Ends a call whose caller does not wait any more; false: it is not here.
    pub(super) fn cancel(&mut self, key: Key) -> bool {
        let cancelled = self.take(|call| call.key() == key);
        cancelled.iter().for_each(Request::fail_cancelled);
        !cancelled.is_empty()
    }
}

/// Lets a call wait that comes too early; any other comes back.
pub(super) fn hold(session: &mut Session, call: Box<Request>, cx: &mut GeminioCx) -> Option<Box<Request>> {
    let Some(until) = session.welcomed.map(|welcomed| welcomed + READY) else { return Some(call) };
    let is_early = session.role == Role::Edge
        && session.state == State::Open
        && call.kind == Kind::Call
        && cx.now() < until
        && !session.ctx.edge_methods.has(session.no, &call.name);
    if !is_early || !session.unready.has_room(&call) {
        return Some(call);
    }
    session.unready.push(*call);
    cx.wake_at(until);
    None
}

/// The edge has registered a method: delivers what waits for it.
pub(super) fn registered(session: &mut Session, method: &Str, cx: &mut GeminioCx) {
    if !session.unready.is_empty() {
        let calls = session.unready.take(|call| call.name == *method);
        deliver(session, calls, cx);
    }
}

/// Delivers what has waited long enough: the edge says itself what it does not know.
pub(super) fn expire(session: &mut Session, now: Instant, cx: &mut GeminioCx) {
    let Some(until) = session.welcomed.map(|welcomed| welcomed + READY) else { return };
    if session.unready.is_empty() {
        return;
    }
    if now < until {
        return cx.wake_at(until);
    }
    let calls = session.unready.take(|_| true);
    deliver(session, calls, cx);
}

fn deliver(session: &mut Session, waited: Vec<Request>, cx: &mut GeminioCx) {
    for call in waited {
        calls::write(session, Box::new(call), cx);
    }
}
