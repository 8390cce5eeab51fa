//! A session's calls and messages: from its socket to others, and from others to its socket.

use std::time::Instant;

use bytes::Bytes;
use limes_wire::driver::Cx;
use limes_wire::frame::{Ack, Call, CallError, Done, Execution, Frame, GoAway, Message, Names, Reply, Role};
use limes_wire::{Code, Str, callback};

use super::{NAMING_MAX, Session, State};
use crate::presence::registration::{NameChange, change_names};
use crate::router::message::{Address, Answer, Delivery, Failure, Kind, Origin, Request};
use crate::router::resolve;
use crate::tasks;

/// Takes one frame of the peer.
pub(super) fn on_frame(session: &mut Session, frame: Frame, cx: &mut Cx) {
    match frame {
        Frame::Call(Call { id, deadline, peer, method, body }) => {
            let deadline = cx.now() + deadline;
            send(session, PeerRequest { kind: Kind::Call, id, peer, deadline, name: method, body }, cx);
        }
        Frame::Message(Message { id, deadline, peer, topic, body }) => {
            let deadline = cx.now() + deadline;
            send(session, PeerRequest { kind: Kind::Message, id, peer, deadline, name: topic, body }, cx);
        }
        Frame::Reply(Reply { id, body }) => {
            session.incoming.answer(id, Kind::Call, Answer::Reply(body));
        }
        Frame::Error(CallError { id, code, ran, text }) => {
            session.incoming.fail(id, Failure { code, ran, text, revision: None });
        }
        Frame::Ack(Ack { id, code: Code::OK, .. }) => {
            session.incoming.answer(id, Kind::Message, Answer::Done);
        }
        Frame::Ack(Ack { id, code, text }) => {
            session.incoming.fail(id, Failure { code, ran: Execution::Completed, text, revision: None });
        }
        Frame::Cancel { id } => {
            if let Some(kind) = session.outgoing.cancel(id) {
                session.ctx.telemetry.metrics.ended(kind, Code::CANCELLED);
            }
        }
        Frame::Register(names) => name(session, NameChange::Register, names, cx),
        Frame::Withdraw(names) => name(session, NameChange::Withdraw, names, cx),
        Frame::Subscribe(names) => name(session, NameChange::Subscribe, names, cx),
        Frame::Unsubscribe(names) => name(session, NameChange::Unsubscribe, names, cx),
        other => {
            let text = format!("an unexpected frame from this side: {}", other.name());
            session.close(GoAway::new(Code::PROTOCOL, text), cx);
        }
    }
}

/// A call or message as the peer asked for it.
struct PeerRequest {
    kind: Kind,
    id: u64,
    peer: u64,
    deadline: Instant,
    name: Str,
    body: Bytes,
}

/// Checks a request against the limits of its connection (PROTOCOL 4.1 and 9.2) and sends it on its way.
fn send(session: &mut Session, asked: PeerRequest, cx: &mut Cx) {
    let PeerRequest { kind, id, peer, deadline, name, body } = asked;
    let refusal = if matches!(session.state, State::Retiring(_)) {
        Some(Failure::not_run(Code::DRAINING, "this session is being retired; use another"))
    } else if session.role == Role::Edge && kind == Kind::Call && callback::is_reserved(&name) {
        Some(Failure::not_run(Code::NO_METHOD, "the gateway alone calls this method"))
    } else {
        session.outgoing.admit(&session.ctx, id, kind, deadline, body.len()).err()
    };
    if let Some(failure) = refusal {
        write_answer(session, kind, id, Answer::Failed(failure), cx);
        return;
    }
    if let Some(at) = session.outgoing.next_deadline() {
        cx.wake_at(at);
    }
    let to = match session.role {
        Role::Edge => Address::service(),
        _ => Address::edge(peer),
    };
    let request = Box::new(Request {
        kind,
        origin: Origin::Session(session.no, session.handle.clone()),
        id,
        to,
        caller: session.id,
        key: session.ctx.router.pick_key(session.id, session.remote),
        deadline,
        name,
        custom: Bytes::new(),
        body,
        patient: false,
        tried: None,
    });
    if let Some(to) = resolve::dispatch(&session.ctx.router, request) {
        session.outgoing.sent_to(id, to);
    }
}

/// Writes a request of somebody else to this session's peer.
pub(super) fn deliver(session: &mut Session, request: Box<Request>, cx: &mut Cx) {
    let remaining = request.remaining(cx.now());
    if session.state != State::Open {
        resolve::return_undelivered(&session.ctx.router, [Delivery::Request(request)]);
        return;
    }
    let calls = session.ctx.limits.calls;
    let id = match session.incoming.admit(&request, cx.now(), calls) {
        Ok(id) => id,
        Err(failure) => return request.fail(failure),
    };
    let Request { kind, caller, name, body, .. } = *request;
    cx.send(match kind {
        Kind::Call => Frame::Call(Call { id, deadline: remaining, peer: caller, method: name, body }),
        Kind::Message => Frame::Message(Message { id, deadline: remaining, peer: caller, topic: name, body }),
    });
}

/// A request of this session's peer has ended elsewhere.
pub(super) fn answered(session: &mut Session, id: u64, answer: Answer, cx: &mut Cx) {
    if let Some(sent) = session.outgoing.complete(id) {
        write_answer(session, sent.kind, id, answer, cx);
    }
}

/// Ends what is past its deadline.
pub(super) fn expire(session: &mut Session, now: Instant, cx: &mut Cx) {
    for (id, kind) in session.outgoing.expired(now) {
        let failure = Failure::may_have_run(Code::TIMEOUT, "no answer within the deadline");
        write_answer(session, kind, id, Answer::Failed(failure), cx);
    }
    if let Some(at) = session.outgoing.next_deadline() {
        cx.wake_at(at);
    }
}

fn write_answer(session: &Session, kind: Kind, id: u64, answer: Answer, cx: &mut Cx) {
    session.ctx.telemetry.metrics.ended(kind, answer.code());
    cx.send(match (kind, answer) {
        (Kind::Call, Answer::Reply(body)) => Frame::Reply(Reply { id, body }),
        (Kind::Message, Answer::Done | Answer::Reply(_)) => {
            Frame::Ack(Ack { id, code: Code::OK, text: String::new() })
        }
        (Kind::Call, Answer::Done) => Frame::Reply(Reply { id, body: Bytes::new() }),
        (Kind::Call, Answer::Failed(f)) => {
            Frame::Error(CallError { id, code: f.code, ran: f.ran, text: f.text })
        }
        (Kind::Message, Answer::Failed(f)) => {
            Frame::Error(CallError { id, code: f.code, ran: f.ran, text: f.text })
        }
    });
}

fn name(session: &mut Session, naming: NameChange, names: Names, cx: &mut Cx) {
    // PROTOCOL 2.8 and 9.1.
    if session.role != Role::Service {
        session.close(GoAway::new(Code::PROTOCOL, "only services register and subscribe"), cx);
        return;
    }
    if session.naming.len() >= NAMING_MAX {
        let text = "too many undecided requests to register".to_owned();
        cx.send(Frame::Done(Done { id: names.id, code: Code::BUSY, text }));
        return;
    }
    session.naming.push_back((naming, names));
    if session.naming.len() == 1 {
        decide(session);
    }
}

/// Has the first change of names decided. One after the other: they keep their order, and each is counted
/// before the next is held against `limits.names`.
fn decide(session: &mut Session) {
    let Some((naming, names)) = session.naming.front_mut() else { return };
    let (id, names) = (names.id, std::mem::take(&mut names.names));
    let work = change_names(session.ctx.presence.clone(), session.no, *naming, id, names);
    tasks::spawn(tasks::Kind::Session, work);
}

/// A registration of this session's peer has been decided.
pub(super) fn named(session: &mut Session, id: u64, code: Code, text: String, cx: &mut Cx) {
    session.naming.pop_front();
    cx.send(Frame::Done(Done { id, code, text }));
    decide(session);
}
