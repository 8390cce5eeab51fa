//! Holds calls to an edge that was just admitted.
//!
//! A client of the reference registers its methods a second after its admission, one by one, and answers `no such rpc`
//! until then. A call of a method that is not registered yet waits for that long.

use std::time::{Duration, Instant};

use limes_wire::Str;
use limes_wire::driver::GeminioCx;
use limes_wire::frame::Role;

use super::state::GeminioSession;
use crate::router::message::{Kind, Request};
use crate::session::state::State;

/// How long an edge may take to register its methods: the second that its client waits, and one more.
const READY: Duration = Duration::from_secs(2);

/// Holds a call whose method may still be registered; returns every other request.
pub(super) fn hold(
    session: &mut GeminioSession,
    call: Box<Request>,
    cx: &mut GeminioCx,
) -> Option<Box<Request>> {
    let Some(until) = ready(session) else { return Some(call) };
    let core = &session.core;
    let is_early = core.role == Role::Edge
        && core.state == State::Open
        && call.kind == Kind::Call
        && cx.now() < until
        && !core.ctx.edge_methods.has(core.no, &call.name);
    if !is_early || !session.protocol.held.has_room(&call) {
        return Some(call);
    }
    session.protocol.held.push(*call);
    cx.wake_at(until);
    None
}

/// Delivers the calls of a method that the edge has registered.
pub(super) fn registered(session: &mut GeminioSession, method: &Str, cx: &mut GeminioCx) {
    if !session.protocol.held.is_empty() {
        let calls = session.protocol.held.take(|call| call.name == *method);
        deliver(session, calls, cx);
    }
}

/// Delivers the calls that have waited long enough: the edge itself refuses an unknown method.
pub(super) fn expire(session: &mut GeminioSession, now: Instant, cx: &mut GeminioCx) {
    let Some(until) = ready(session) else { return };
    if session.protocol.held.is_empty() {
        return;
    }
    if now < until {
        return cx.wake_at(until);
    }
    let calls = session.protocol.held.take(|_| true);
    deliver(session, calls, cx);
}

fn ready(session: &GeminioSession) -> Option<Instant> {
    session.protocol.welcomed.map(|welcomed| welcomed + READY)
}

fn deliver(session: &mut GeminioSession, calls: Vec<Request>, cx: &mut GeminioCx) {
    for call in calls {
        session.write(Box::new(call), cx);
    }
}
