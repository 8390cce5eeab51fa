//! The reference's protocol as a session's protocol.

use std::time::{Duration, Instant};

use limes_wire::driver::GeminioCx;
use limes_wire::frame::{GoAway, Role, Welcome};
use limes_wire::geminio::{Conn, DEFAULT_SESSION, Event, Word};
use limes_wire::{CloseReason, Code};

use super::state::{GeminioProtocol, GeminioSession, Linger};
use super::{calls, hello, readiness, stream_events};
use crate::presence::registration::NameChange;
use crate::router::message::{Answer, Delivery, GeminioMessage, Key, Kind, Request, StreamReply};
use crate::router::resolve;
use crate::session::handler::SessionProtocol;
use crate::session::state::State;

/// How long a node that leaves serves a service as before. The reference's client for clusters asks every 10 s where the
/// nodes are, and then moves by itself, without an error.
const LINGER: Duration = Duration::from_secs(12);
/// How long before its end a retiring session takes no more requests for the peer.
const FINAL_ANSWERS: Duration = Duration::from_secs(5);
/// Packet id under which the topics of a service's meta are subscribed; clients use higher ids.
const TOPICS: u64 = 0;

impl SessionProtocol for GeminioProtocol {
    type Wire = Conn;
    type Message = GeminioMessage;
    const NAME: &'static str = "geminio";
    const OFFENCES: &'static [Code] =
        &[Code::PROTOCOL, Code::TOO_LARGE, Code::LIMIT, Code::HANDSHAKE_TIMEOUT, Code::KEEPALIVE];

    fn on_event(session: &mut GeminioSession, event: Event, cx: &mut GeminioCx) {
        match event {
            Event::Hello(hello) => hello::on_hello(session, hello, cx),
            Event::Word(DEFAULT_SESSION, id, word) => calls::on_word(session, id, word, cx),
            Event::Word(stream, id, word) => stream_events::received(session, stream, id, word, cx),
            Event::Opening { session: stream, peer, meta } => {
                stream_events::opening(session, stream, &peer, meta, cx);
            }
            Event::Accepted(stream) => session.protocol.streams.accepted(stream),
            Event::Ended(stream) => stream_events::ended(session, stream, cx),
            Event::Leaving => {
                // No task may send the peer anything from now on.
                session.core.state = State::Leaving;
                session.core.ctx.presence.session_closed(session.core.no);
            }
            Event::Over => {}
        }
        Self::close_if_finished(session, cx);
    }

    fn on_message(session: &mut GeminioSession, message: GeminioMessage, cx: &mut GeminioCx) {
        match message {
            GeminioMessage::Delivery(delivery) => session.on_delivery(delivery, cx),
            GeminioMessage::Command(command) => session.on_command(command, cx),
            GeminioMessage::Stream(command) => stream_events::execute(session, *command, cx),
        }
    }

    fn on_timeout(session: &mut GeminioSession, now: Instant, cx: &mut GeminioCx) {
        match session.protocol.linger.take() {
            Some(linger) if now < linger.begins => {
                cx.wake_at(linger.begins);
                session.protocol.linger = Some(linger);
            }
            Some(linger) => {
                Self::retire(session, linger.goaway, linger.until.min(now + LINGER), cx);
                Self::close_if_finished(session, cx);
            }
            None => {}
        }
        session.expire_requests(now, cx);
        stream_events::expire(session, now, cx);
        readiness::expire(session, now, cx);
        if let State::Retiring(at) | State::Closing(at) = session.core.state {
            cx.wake_at(at);
        }
    }

    fn admitted(session: &mut GeminioSession, _: Welcome, cx: &mut GeminioCx) {
        if session.protocol.topics.is_empty() {
            return welcome(session, cx);
        }
        session.core.state = State::Subscribing;
        session.protocol.registrations += 1;
        let topics = session.protocol.topics.clone();
        session.core.change_names(NameChange::Subscribe, TOPICS, topics);
    }

    fn names_decided(session: &mut GeminioSession, id: u64, code: Code, text: String, cx: &mut GeminioCx) {
        session.protocol.registrations = session.protocol.registrations.saturating_sub(1);
        if code != Code::OK {
            // The client takes any answer for a success; it tries again only on a new connection.
            session.close(GoAway::new(code, text), cx);
        } else if id == TOPICS {
            if session.core.state == State::Subscribing {
                welcome(session, cx);
            }
        } else {
            let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, Word::RegisterAck(String::new()));
        }
    }

    /// Only a peer that is not welcomed yet can be given a text.
    fn close(session: &mut GeminioSession, goaway: GoAway, cx: &mut GeminioCx) {
        let reason = CloseReason::us(goaway.code, goaway.text.clone());
        if session.core.state == State::Silent || session.core.state.is_being_admitted() {
            cx.conn.refuse(session.core.id.unwrap_or_default(), &goaway.text);
        }
        session.core.farewell = Some(goaway.code);
        session.protocol.goaway = Some(goaway);
        // What the peer answers from here on is not read, so its callers need not wait until the output is written.
        session.core.fail_incoming();
        match session.settled() {
            Some(at) if cx.now() < at => {
                session.core.state = State::Closing(at);
                return_undelivered(session);
                cx.wake_at(at);
            }
            _ => cx.close(reason),
        }
    }

    fn retire(session: &mut GeminioSession, goaway: GoAway, until: Instant, cx: &mut GeminioCx) {
        let core = &mut session.core;
        let begins = cx.now() + LINGER;
        if core.state == State::Open && core.role == Role::Service && begins < until {
            session.protocol.linger = Some(Linger { begins, goaway, until });
            cx.wake_at(begins);
        } else if core.state == State::Open {
            core.farewell = Some(goaway.code);
            core.state = State::Retiring(until);
            session.protocol.goaway = Some(goaway);
            cx.wake_at(until);
        } else if core.state.is_being_admitted() {
            session.close(goaway, cx);
        }
    }

    fn close_if_finished(session: &mut GeminioSession, cx: &mut GeminioCx) {
        let (until, finished) = match session.core.state {
            State::Retiring(until) => {
                let idle = is_idle(session, cx);
                // Until it may be disconnected the peer is served.
                let settled = session.settled().unwrap_or(cx.now());
                if idle && cx.now() < settled {
                    cx.wake_at(settled);
                }
                (until, idle && cx.now() >= settled)
            }
            State::Closing(until) => (until, false),
            _ => return,
        };
        if finished || cx.now() >= until {
            let goaway = session.protocol.goaway.clone();
            session.close(goaway.unwrap_or_else(|| GoAway::new(Code::SHUTDOWN, "finished")), cx);
        }
    }

    /// Clients of the reference cannot connect elsewhere first. One that is still busy on a node that leaves is served for
    /// as long as it has time to answer.
    fn is_served(session: &GeminioSession, now: Instant) -> bool {
        match session.core.state {
            State::Open => true,
            State::Retiring(until) => {
                session.core.farewell == Some(Code::DRAINING) && now + FINAL_ANSWERS < until
            }
            _ => false,
        }
    }

    fn write_request(session: &mut GeminioSession, id: u64, request: Box<Request>, cx: &mut GeminioCx) {
        calls::write_request(session, id, request, cx);
    }

    fn write_answer(session: &mut GeminioSession, kind: Kind, id: u64, answer: Answer, cx: &mut GeminioCx) {
        calls::write_answer(session, kind, id, answer, cx);
    }

    /// Only calls can be cancelled in this protocol.
    fn write_cancel(_: &mut GeminioSession, kind: Kind, id: u64, cx: &mut GeminioCx) {
        if kind == Kind::Call {
            let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, Word::Cancel(1));
        }
    }

    fn open_stream(session: &mut GeminioSession, reply: StreamReply, _: &mut GeminioCx) {
        stream_events::open(session, reply);
    }

    fn hold(session: &mut GeminioSession, request: Box<Request>, cx: &mut GeminioCx) -> Option<Box<Request>> {
        readiness::hold(session, request, cx)
    }

    fn cancel_held(session: &mut GeminioSession, key: Key) -> bool {
        session.protocol.held.cancel(key)
    }

    fn release(session: &mut GeminioSession) -> Vec<Request> {
        session.core.ctx.edge_methods.forget(session.core.no);
        session.protocol.held.take(|_| true)
    }
}

fn welcome(session: &mut GeminioSession, cx: &mut GeminioCx) {
    session.protocol.welcomed = Some(cx.now());
    session.core.open(GeminioProtocol::NAME);
    cx.conn.welcome(session.core.caller());
    session.deliver_early(cx);
}

/// Whether nothing is in flight. A stream that is being closed counts: its client may hold bytes that its program has not
/// read.
fn is_idle(session: &GeminioSession, cx: &GeminioCx) -> bool {
    let (core, protocol) = (&session.core, &session.protocol);
    let has_streams = !protocol.streams.is_empty() || cx.conn.streams() > 0;
    !has_streams && core.outgoing.is_empty() && core.incoming.is_empty() && protocol.held.is_empty()
}

/// Returns to the router what was not written to the peer.
fn return_undelivered(session: &mut GeminioSession) {
    let held = session.protocol.held.take(|_| true).into_iter();
    let held = held.map(|request| Delivery::Request(Box::new(request)));
    let early = session.core.early.take();
    resolve::return_undelivered(&session.core.ctx.router, early.into_iter().chain(held));
}
