//! A session's calls and messages: from its packets to others, and from others to its packets.

use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use limes_routing::EdgeId;
use limes_wire::callback::is_reserved;
use limes_wire::driver::GeminioCx;
use limes_wire::frame::Role;
use limes_wire::geminio::{DEFAULT_SESSION, MessageData, Time, Word};
use limes_wire::{Code, Str, limits};

use super::pending_requests::PendingRequest;
use super::{Session, State, facts, texts, unready};
use crate::presence::registration::NameChange;
use crate::router::message::{Address, Answer, Delivery, Failure, Kind, Origin, Request, SessionHandle};
use crate::router::resolve;

/// How long a call or message may take if its caller does not want it shorter.
const PATIENCE: Duration = Duration::from_secs(30);
/// Registrations of one service that may be undecided.
const NAMING_MAX: usize = 256;
/// How long before the end of its time an end that shall go is asked nothing more.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The edge's id at the end of `custom`.
const EDGE_ID: usize = 8;

/// Takes one packet of the default stream.
pub(super) fn on_word(session: &mut Session, id: u64, word: Word, cx: &mut GeminioCx) {
    match word {
        Word::Request(data) => ask(session, Kind::Call, id, data, cx),
        Word::Message(data) => ask(session, Kind::Message, id, data, cx),
        Word::Response(data) if data.error.is_empty() => {
            session.incoming.answer(id, Kind::Call, Answer::Reply(data.value));
        }
        Word::MessageAck(data) if data.error.is_empty() => {
            session.incoming.answer(id, Kind::Message, Answer::Done);
        }
        Word::Response(data) | Word::MessageAck(data) => {
            session.incoming.fail(id, texts::failure(data.error))
        }
        Word::Cancel(_) => {
            let newest = session.questions.newest(id);
            if let Some((no, kind)) = newest.and_then(|no| Some((no, session.outgoing.cancel(no)?))) {
                let failure = Failure::may_have_run(Code::CANCELLED, "");
                write_answer(session, kind, no, Answer::Failed(failure), cx);
            }
        }
        Word::Register(method) => register(session, id, method, cx),
        // Of the connection's own raw bytes the reference makes nothing either.
        Word::Data(_) | Word::RegisterAck(_) => {}
    }
}

/// The peer offers a method. For an edge that is a matter of its own.
fn register(session: &mut Session, id: u64, method: Bytes, cx: &mut GeminioCx) {
    let method = Str::try_from(method).ok().filter(|name| !name.is_empty() && name.len() <= limits::NAME_MAX);
    let error = match &method {
        Some(method) if session.role == Role::Edge => {
            let most = session.ctx.limits.names;
            session.ctx.edge_methods.note(session.no, EdgeId(session.id), method, most);
            String::new()
        }
        None if session.role == Role::Edge => String::new(),
        None => format!("a method's name is UTF-8 of at most {} bytes", limits::NAME_MAX),
        Some(_) if session.naming >= NAMING_MAX => "too many undecided registrations".to_owned(),
        Some(method) => return session.name(NameChange::Register, id, vec![method.clone()]),
    };
    let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, Word::RegisterAck(error));
    if let Some(method) = method.filter(|_| session.role == Role::Edge) {
        unready::registered(session, &method, cx);
    }
}

/// How long a request may take, and whether that is its caller's own wish, who then knows another text.
fn patience(left: Option<Duration>) -> (Duration, bool) {
    // A deadline that has passed already says that the clocks differ: it is not kept.
    left.filter(|left| *left < PATIENCE).map_or((PATIENCE, false), |left| (left, true))
}

/// Sends a call or message of the peer on its way.
fn ask(session: &mut Session, kind: Kind, id: u64, data: MessageData, cx: &mut GeminioCx) {
    let (left, in_time) = patience(data.until().and_then(|until| until.remaining(SystemTime::now())));
    let deadline = cx.now() + left;
    let MessageData { key, value, topic, mut custom, .. } = data;
    let name = match kind {
        Kind::Call => Str::try_from(key).unwrap_or_default(),
        Kind::Message => Str::from(topic),
    };
    let id = session.questions.note(PendingRequest { id, name: name.clone(), in_time });
    let refusal = |code, text| Err(Failure::not_run(code, text));
    let target = match session.role {
        _ if name.len() > limits::NAME_MAX => refusal(Code::TOO_LARGE, "the name is too long"),
        Role::Edge if kind == Kind::Call && is_reserved(&name) => refusal(Code::NO_METHOD, ""),
        Role::Edge => Ok(Address::service()),
        _ => match custom.len().checked_sub(EDGE_ID).map(|at| custom.split_off(at)) {
            Some(edge) => Ok(Address::edge(edge.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)))),
            None => refusal(Code::PROTOCOL, "custom does not end in an edge id"),
        },
    };
    let bytes = value.len() + custom.len();
    let doomed = matches!(session.state, State::Doomed(_));
    let target = target.and_then(|target| {
        if doomed {
            return Err(Failure::not_run(Code::GONE, ""));
        }
        session.outgoing.admit(&session.ctx, id, kind, deadline, bytes).map(|()| target)
    });
    let target = match target {
        Ok(target) => target,
        Err(failure) => return write_answer(session, kind, id, Answer::Failed(failure), cx),
    };
    if let Some(at) = session.outgoing.next_deadline() {
        cx.wake_at(at);
    }
    let request = Box::new(Request {
        kind,
        origin: Origin::Session(session.no, SessionHandle::Geminio(session.handle.clone())),
        id,
        to: target,
        caller: session.id,
        key: session.ctx.router.pick_key_as_before(session.id, session.remote),
        deadline,
        name,
        custom,
        body: value,
        patient: session.role == Role::Service,
        tried: None,
    });
    if let Some(to) = resolve::dispatch(&session.ctx.router, request) {
        session.outgoing.sent_to(id, to);
    }
}

/// Whether the peer may still be asked something. Old clients cannot open elsewhere first: who is still here
/// because it is busy, on a node that stops, is served for as long as an answer can be expected.
fn is_served(session: &Session, now: Instant) -> bool {
    let stops = session.farewell.as_ref().is_some_and(|goaway| goaway.code == Code::DRAINING);
    match session.state {
        State::Open => true,
        State::Retiring(until) => stops && now + LAST_ANSWERS < until,
        _ => false,
    }
}

/// Takes a request of somebody else for this session's peer.
pub(super) fn deliver(session: &mut Session, request: Box<Request>, cx: &mut GeminioCx) {
    if let Some(request) = unready::hold(session, request, cx) {
        write(session, request, cx);
    }
}

/// Writes a request of somebody else to this session's peer.
pub(super) fn write(session: &mut Session, request: Box<Request>, cx: &mut GeminioCx) {
    if !is_served(session, cx.now()) {
        return resolve::return_undelivered(&session.ctx.router, [Delivery::Request(request)]);
    }
    let (remaining, calls) = (request.remaining(cx.now()), session.ctx.limits.calls);
    let id = match session.incoming.admit(&request, cx.now(), calls) {
        Ok(id) => id,
        Err(failure) => return request.fail(failure),
    };
    let Request { kind, caller, name, custom, body, .. } = *request;
    let callback = match (session.role, kind) {
        (Role::Service, Kind::Call) => facts::body(&name, &body),
        _ => None,
    };
    let custom = match (&callback, session.role) {
        (None, Role::Service) => append(&custom, caller),
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
        session.incoming.fail(id, Failure::not_run(Code::TOO_LARGE, text));
    }
}

/// The user's bytes and the edge's id.
fn append(custom: &[u8], edge: u64) -> Bytes {
    let mut whole = BytesMut::with_capacity(custom.len() + EDGE_ID);
    whole.extend_from_slice(custom);
    whole.extend_from_slice(&edge.to_be_bytes());
    whole.freeze()
}

/// A request of this session's peer has ended elsewhere.
pub(super) fn answered(session: &mut Session, id: u64, answer: Answer, cx: &mut GeminioCx) {
    if let Some(sent) = session.outgoing.complete(id) {
        write_answer(session, sent.kind, id, answer, cx);
    }
}

/// Ends what is past its deadline.
pub(super) fn expire(session: &mut Session, now: Instant, cx: &mut GeminioCx) {
    for (id, kind) in session.outgoing.expired(now) {
        let failure = Failure::may_have_run(Code::TIMEOUT, "no answer within the deadline");
        write_answer(session, kind, id, Answer::Failed(failure), cx);
    }
    if let Some(at) = session.outgoing.next_deadline() {
        cx.wake_at(at);
    }
}

fn write_answer(session: &mut Session, kind: Kind, no: u64, answer: Answer, cx: &mut GeminioCx) {
    let Some((asked, is_waited_for)) = session.questions.take(no) else { return };
    let (role, id) = (session.role, asked.id);
    let (code, mut data) = match answer {
        Answer::Reply(value) => (Code::OK, MessageData { value, ..MessageData::default() }),
        Answer::Done => (Code::OK, MessageData::default()),
        Answer::Failed(failure) => {
            (failure.code, MessageData::failed(texts::text(role, kind, &asked, failure)))
        }
    };
    if kind == Kind::Call {
        data.key = Bytes::copy_from_slice(asked.name.as_bytes());
    }
    session.ctx.telemetry.metrics.ended(kind, code);
    if !is_waited_for {
        return cx.conn.settle(cx.now());
    }
    let word = |data| match kind {
        Kind::Call => Word::Response(data),
        Kind::Message => Word::MessageAck(data),
    };
    if cx.conn.send(cx.now(), DEFAULT_SESSION, id, word(data)).is_err() {
        let failure = Failure::may_have_run(Code::TOO_LARGE, "");
        let data = MessageData::failed(texts::text(role, kind, &asked, failure));
        let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, word(data));
    }
}
