//! Packets of a session's peer to requests and answers, and back.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use limes_routing::EdgeId;
use limes_wire::callback::is_reserved;
use limes_wire::driver::GeminioCx;
use limes_wire::frame::Role;
use limes_wire::geminio::{DEFAULT_SESSION, MessageData, Time, Word};
use limes_wire::{Code, Str, limits};

use super::pending_requests::PendingRequest;
use super::state::GeminioSession;
use super::{callback, readiness, texts};
use crate::presence::registration::NameChange;
use crate::router::message::{Address, Answer, Failure, Kind, Request};
use crate::session::core::NAME_CHANGES_MAX;
use crate::session::handler::PeerRequest;
use crate::session::state::State;

/// How long a call or message may take if its caller sets no shorter time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the edge's id at the end of `custom`.
const EDGE_ID: usize = 8;

/// Takes one packet of the default stream.
pub(super) fn on_word(session: &mut GeminioSession, id: u64, word: Word, cx: &mut GeminioCx) {
    let incoming = &mut session.core.incoming;
    match word {
        Word::Request(data) => send(session, Kind::Call, id, data, cx),
        Word::Message(data) => send(session, Kind::Message, id, data, cx),
        Word::Response(data) if data.error.is_empty() => {
            incoming.answer(id, Kind::Call, Answer::Reply(data.value));
        }
        Word::MessageAck(data) if data.error.is_empty() => {
            incoming.answer(id, Kind::Message, Answer::Done);
        }
        Word::Response(data) | Word::MessageAck(data) => incoming.fail(id, texts::failure(data.error)),
        Word::Cancel(_) => {
            let newest = session.protocol.pending.newest(id);
            if let Some((no, kind)) = newest.and_then(|no| Some((no, session.core.outgoing.cancel(no)?))) {
                session.refuse(kind, no, Failure::may_have_run(Code::CANCELLED, ""), cx);
            }
        }
        Word::Register(method) => register(session, id, method, cx),
        // The reference ignores raw bytes on the connection itself, too.
        Word::Data(_) | Word::RegisterAck(_) => {}
    }
}

/// The peer offers a method. That of a service is registered in the tables; that of an edge is only noted.
fn register(session: &mut GeminioSession, id: u64, method: Bytes, cx: &mut GeminioCx) {
    let method = Str::try_from(method).ok().filter(|name| !name.is_empty() && name.len() <= limits::NAME_MAX);
    let core = &session.core;
    let is_edge = core.role == Role::Edge;
    let error = match &method {
        Some(method) if is_edge => {
            core.ctx.edge_methods.note(core.no, EdgeId(core.caller()), method, core.ctx.limits.names);
            String::new()
        }
        None if is_edge => String::new(),
        None => format!("a method's name is UTF-8 of at most {} bytes", limits::NAME_MAX),
        Some(_) if session.protocol.registrations >= NAME_CHANGES_MAX => {
            "too many undecided registrations".to_owned()
        }
        Some(method) => {
            session.protocol.registrations += 1;
            return core.change_names(NameChange::Register, id, vec![method.clone()]);
        }
    };
    let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, Word::RegisterAck(error));
    if let Some(method) = method.filter(|_| is_edge) {
        readiness::registered(session, &method, cx);
    }
}

/// How long a request may take, and whether its caller set that time, who then expects another error text. `left`: the
/// time until the caller's deadline; `None` if there is none, or if it has passed, which shows that the clocks differ.
fn patience(left: Option<Duration>) -> (Duration, bool) {
    left.filter(|left| *left < PATIENCE).map_or((PATIENCE, false), |left| (left, true))
}

/// Dispatches a call or message of the peer.
fn send(session: &mut GeminioSession, kind: Kind, id: u64, data: MessageData, cx: &mut GeminioCx) {
    let left = data.until().and_then(|until| until.remaining(SystemTime::now()));
    let (left, has_own_deadline) = patience(left);
    let deadline = cx.now() + left;
    let MessageData { key, value: body, topic, mut custom, .. } = data;
    let name = match kind {
        Kind::Call => Str::try_from(key).unwrap_or_default(),
        Kind::Message => Str::from(topic),
    };
    let request = PendingRequest { id, name: name.clone(), has_own_deadline };
    let id = session.protocol.pending.insert(request);
    let core = &session.core;
    let to = match receiver(core.role, kind, &name, &mut custom) {
        Ok(_) if matches!(core.state, State::Closing(_)) => Err(Failure::not_run(Code::GONE, "")),
        to => to,
    };
    let to = match to {
        Ok(to) => to,
        Err(failure) => return session.refuse(kind, id, failure, cx),
    };
    let key = core.ctx.router.pick_key_as_before(core.caller(), core.remote);
    let patient = core.role == Role::Service;
    session.send(PeerRequest { kind, id, to, key, deadline, name, custom, body, patient }, cx);
}

/// The receiver of a request. A service names an edge by the last bytes of `custom`, which are removed.
fn receiver(role: Role, kind: Kind, name: &Str, custom: &mut Bytes) -> Result<Address, Failure> {
    if name.len() > limits::NAME_MAX {
        return Err(Failure::not_run(Code::TOO_LARGE, "the name is too long"));
    }
    if role == Role::Edge {
        let is_callback = kind == Kind::Call && is_reserved(name);
        return if is_callback { Err(Failure::not_run(Code::NO_METHOD, "")) } else { Ok(Address::service()) };
    }
    let Some(at) = custom.len().checked_sub(EDGE_ID) else {
        return Err(Failure::not_run(Code::PROTOCOL, "custom does not end in an edge id"));
    };
    let edge = custom.split_off(at);
    Ok(Address::edge(edge.iter().fold(0, |id, byte| id << 8 | u64::from(*byte))))
}

/// Writes a request of another task to the peer, under this id.
pub(super) fn write_request(
    session: &mut GeminioSession,
    id: u64,
    request: Box<Request>,
    cx: &mut GeminioCx,
) {
    let remaining = request.remaining(cx.now());
    let Request { kind, caller, name, custom, body, .. } = *request;
    let role = session.core.role;
    let callback = match (role, kind) {
        (Role::Service, Kind::Call) => callback::body(&name, &body),
        _ => None,
    };
    let custom = match (&callback, role) {
        (None, Role::Service) => with_edge_id(&custom, caller),
        _ => custom,
    };
    let data = MessageData {
        value: callback.unwrap_or(body),
        custom,
        deadline: Some(Time::after(SystemTime::now(), remaining)),
        ..MessageData::default()
    };
    let word = match kind {
        Kind::Call => Word::Request(MessageData { key: Bytes::copy_from_slice(name.as_bytes()), ..data }),
        Kind::Message => Word::Message(MessageData { topic: name.to_string(), ..data }),
    };
    if cx.conn.send(cx.now(), DEFAULT_SESSION, id, word).is_err() {
        let text = "too large for the receiver, which would end its connection";
        session.core.incoming.fail(id, Failure::not_run(Code::TOO_LARGE, text));
    }
}

/// The user's bytes followed by the edge's id.
fn with_edge_id(custom: &[u8], edge: u64) -> Bytes {
    let mut whole = BytesMut::with_capacity(custom.len() + EDGE_ID);
    whole.extend_from_slice(custom);
    whole.extend_from_slice(&edge.to_be_bytes());
    whole.freeze()
}

/// Writes the answer to the request with this number, if the peer expects it.
pub(super) fn write_answer(
    session: &mut GeminioSession,
    kind: Kind,
    no: u64,
    answer: Answer,
    cx: &mut GeminioCx,
) {
    let Some((request, is_expected)) = session.protocol.pending.take(no) else { return };
    let (role, id) = (session.core.role, request.id);
    let (code, mut data) = match answer {
        Answer::Reply(value) => (Code::OK, MessageData { value, ..MessageData::default() }),
        Answer::Done => (Code::OK, MessageData::default()),
        Answer::Failed(failure) => {
            (failure.code, MessageData::failed(texts::text(role, kind, &request, failure)))
        }
    };
    if kind == Kind::Call {
        data.key = Bytes::copy_from_slice(request.name.as_bytes());
    }
    session.core.ctx.telemetry.metrics.ended(kind, code);
    if !is_expected {
        return cx.conn.settle(cx.now());
    }
    let word = |data| match kind {
        Kind::Call => Word::Response(data),
        Kind::Message => Word::MessageAck(data),
    };
    if cx.conn.send(cx.now(), DEFAULT_SESSION, id, word(data)).is_err() {
        let failure = Failure::may_have_run(Code::TOO_LARGE, "");
        let data = MessageData::failed(texts::text(role, kind, &request, failure));
        let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, word(data));
    }
}
