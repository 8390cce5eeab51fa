//! Frames of a session's peer to requests and answers, and back.

use std::time::Instant;

use bytes::Bytes;
use limes_wire::driver::Cx;
use limes_wire::frame::{Ack, Call, CallError, Execution, Frame, GoAway, Message, Reply, Role};
use limes_wire::{Code, Str, callback};

use super::names;
use super::state::NativeSession;
use crate::presence::registration::NameChange;
use crate::router::message::{Address, Answer, Failure, Kind, Request};
use crate::session::handler::PeerRequest;
use crate::session::state::State;

/// Takes one frame of the peer.
pub(super) fn on_frame(session: &mut NativeSession, frame: Frame, cx: &mut Cx) {
    let incoming = &mut session.core.incoming;
    match frame {
        Frame::Call(Call { id, deadline, peer, method, body }) => {
            let deadline = cx.now() + deadline;
            send(session, Sent { kind: Kind::Call, id, peer, deadline, name: method, body }, cx);
        }
        Frame::Message(Message { id, deadline, peer, topic, body }) => {
            let deadline = cx.now() + deadline;
            send(session, Sent { kind: Kind::Message, id, peer, deadline, name: topic, body }, cx);
        }
        Frame::Reply(Reply { id, body }) => {
            incoming.answer(id, Kind::Call, Answer::Reply(body));
        }
        Frame::Error(CallError { id, code, ran, text }) => {
            incoming.fail(id, Failure { code, ran, text, revision: None });
        }
        Frame::Ack(Ack { id, code: Code::OK, .. }) => {
            incoming.answer(id, Kind::Message, Answer::Done);
        }
        Frame::Ack(Ack { id, code, text }) => {
            incoming.fail(id, Failure { code, ran: Execution::Completed, text, revision: None });
        }
        Frame::Cancel { id } => {
            if let Some(kind) = session.core.outgoing.cancel(id) {
                session.core.ctx.telemetry.metrics.ended(kind, Code::CANCELLED);
            }
        }
        Frame::Register(names) => names::request(session, NameChange::Register, names, cx),
        Frame::Withdraw(names) => names::request(session, NameChange::Withdraw, names, cx),
        Frame::Subscribe(names) => names::request(session, NameChange::Subscribe, names, cx),
        Frame::Unsubscribe(names) => names::request(session, NameChange::Unsubscribe, names, cx),
        other => {
            let text = format!("an unexpected frame from this side: {}", other.name());
            session.close(GoAway::new(Code::PROTOCOL, text), cx);
        }
    }
}

/// A CALL or MESSAGE frame.
struct Sent {
    kind: Kind,
    id: u64,
    peer: u64,
    deadline: Instant,
    name: Str,
    body: Bytes,
}

/// Dispatches a request of the peer, unless its session or its role forbids it.
fn send(session: &mut NativeSession, sent: Sent, cx: &mut Cx) {
    let Sent { kind, id, peer, deadline, name, body } = sent;
    let core = &session.core;
    if matches!(core.state, State::Retiring(_)) {
        let failure = Failure::not_run(Code::DRAINING, "this session is being retired; use another");
        return session.refuse(kind, id, failure, cx);
    }
    if core.role == Role::Edge && kind == Kind::Call && callback::is_reserved(&name) {
        let failure = Failure::not_run(Code::NO_METHOD, "the gateway alone calls this method");
        return session.refuse(kind, id, failure, cx);
    }
    let to = match core.role {
        Role::Edge => Address::service(),
        _ => Address::edge(peer),
    };
    let key = core.ctx.router.pick_key(core.caller(), core.remote);
    let custom = Bytes::new();
    session.send(PeerRequest { kind, id, to, key, deadline, name, custom, body, patient: false }, cx);
}

/// Writes a request of another task to the peer, under this id.
pub(super) fn write_request(id: u64, request: Box<Request>, cx: &mut Cx) {
    let deadline = request.remaining(cx.now());
    let Request { kind, caller: peer, name, body, .. } = *request;
    cx.send(match kind {
        Kind::Call => Frame::Call(Call { id, deadline, peer, method: name, body }),
        Kind::Message => Frame::Message(Message { id, deadline, peer, topic: name, body }),
    });
}

/// Writes the answer to a request of the peer.
pub(super) fn write_answer(session: &NativeSession, kind: Kind, id: u64, answer: Answer, cx: &mut Cx) {
    session.core.ctx.telemetry.metrics.ended(kind, answer.code());
    cx.send(match (kind, answer) {
        (Kind::Call, Answer::Reply(body)) => Frame::Reply(Reply { id, body }),
        (Kind::Call, Answer::Done) => Frame::Reply(Reply { id, body: Bytes::new() }),
        (Kind::Message, Answer::Done | Answer::Reply(_)) => {
            Frame::Ack(Ack { id, code: Code::OK, text: String::new() })
        }
        (_, Answer::Failed(Failure { code, ran, text, .. })) => {
            Frame::Error(CallError { id, code, ran, text })
        }
    });
}
