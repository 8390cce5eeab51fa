//! The native protocol as a session's protocol.

use std::time::Instant;

use limes_wire::Code;
use limes_wire::driver::{Cx, Native, PeerEvent, Stream};
use limes_wire::frame::{Frame, GoAway, Hello, Role, Welcome};
use tracing::debug;

use super::state::{NativeProtocol, NativeSession};
use super::{names, requests};
use crate::presence::admission::PeerProtocol;
use crate::router::message::{Answer, Kind, NativeMessage, Request, StreamReply};
use crate::router::streams;
use crate::session::handler::SessionProtocol;
use crate::session::state::State;
use crate::tasks;

impl SessionProtocol for NativeProtocol {
    type Wire = Native;
    type Message = NativeMessage;
    const NAME: &'static str = "native";
    const OFFENCES: &'static [Code] =
        &[Code::PROTOCOL, Code::TOO_LARGE, Code::VERSION, Code::LIMIT, Code::HANDSHAKE_TIMEOUT];

    fn on_event(session: &mut NativeSession, event: PeerEvent, cx: &mut Cx) {
        match event {
            PeerEvent::Hello(hello) => on_hello(session, *hello, cx),
            PeerEvent::Welcome(_) => {
                session.close(GoAway::new(Code::PROTOCOL, "only the gateway sends a welcome"), cx);
            }
            PeerEvent::Frame(frame) => {
                requests::on_frame(session, frame, cx);
                Self::close_if_finished(session, cx);
            }
            PeerEvent::GoAway(goaway) => on_goaway(session, goaway, cx),
            PeerEvent::Stream(stream) => on_stream(session, stream),
            PeerEvent::Silence(silent) => session.core.ctx.sessions.set_silent(session.core.no, silent),
        }
    }

    fn on_message(session: &mut NativeSession, message: NativeMessage, cx: &mut Cx) {
        match message {
            NativeMessage::Delivery(delivery) => session.on_delivery(delivery, cx),
            NativeMessage::Command(command) => session.on_command(command, cx),
            NativeMessage::Advise(goaway) => {
                if session.core.state == State::Open {
                    cx.send(Frame::GoAway(goaway));
                }
            }
        }
    }

    fn on_timeout(session: &mut NativeSession, now: Instant, cx: &mut Cx) {
        session.expire_requests(now, cx);
    }

    fn admitted(session: &mut NativeSession, welcome: Welcome, cx: &mut Cx) {
        session.core.open(Self::NAME);
        cx.welcome(welcome);
        session.deliver_early(cx);
    }

    fn names_decided(session: &mut NativeSession, id: u64, code: Code, text: String, cx: &mut Cx) {
        names::decided(session, id, code, text, cx);
    }

    fn close(session: &mut NativeSession, goaway: GoAway, cx: &mut Cx) {
        session.core.farewell = Some(goaway.code);
        if !session.core.has_drained {
            // PROTOCOL 3.6: what the peer answers from here on is not read, so its callers need not wait until
            // the go-away is written.
            session.core.fail_incoming();
        }
        cx.close(goaway);
    }

    fn retire(session: &mut NativeSession, goaway: GoAway, until: Instant, cx: &mut Cx) {
        session.core.farewell = Some(goaway.code);
        session.core.state = State::Retiring(until);
        cx.send(Frame::GoAway(goaway));
        cx.wake_at(until);
        Self::close_if_finished(session, cx);
    }

    fn close_if_finished(session: &mut NativeSession, cx: &mut Cx) {
        let core = &session.core;
        let State::Retiring(until) = core.state else { return };
        if core.outgoing.is_empty() && core.incoming.is_empty() && cx.streams() == 0 {
            // PROTOCOL 3.6: `OK` tells the peer that what it has sent meanwhile was not read.
            session.close(GoAway::new(Code::OK, "finished"), cx);
        } else if cx.now() >= until {
            let code = core.farewell.unwrap_or(Code::SHUTDOWN);
            session.close(GoAway::new(code, "not everything was finished in time"), cx);
        }
    }

    fn is_served(session: &NativeSession, _: Instant) -> bool {
        session.core.state == State::Open
    }

    fn write_request(_: &mut NativeSession, id: u64, request: Box<Request>, cx: &mut Cx) {
        requests::write_request(id, request, cx);
    }

    fn write_answer(session: &mut NativeSession, kind: Kind, id: u64, answer: Answer, cx: &mut Cx) {
        requests::write_answer(session, kind, id, answer, cx);
    }

    fn write_cancel(_: &mut NativeSession, _: Kind, id: u64, cx: &mut Cx) {
        cx.send(Frame::Cancel { id });
    }

    fn open_stream(_: &mut NativeSession, reply: StreamReply, cx: &mut Cx) {
        cx.open_stream(move |opened| {
            let _ = reply.send(opened);
        });
    }
}

fn on_hello(session: &mut NativeSession, hello: Hello, cx: &mut Cx) {
    let role = session.core.role;
    // PROTOCOL 1.1.
    if hello.role != role {
        let text = format!("this port is for {role:?} connections, not {:?}", hello.role);
        session.close(GoAway::new(Code::PROTOCOL, text), cx);
        return;
    }
    if hello.name.is_empty() && role == Role::Service {
        session.close(GoAway::new(Code::PROTOCOL, "a service needs a name"), cx);
        return;
    }
    session.core.admit(PeerProtocol::Native, hello);
}

fn on_goaway(session: &mut NativeSession, goaway: GoAway, cx: &mut Cx) {
    debug!(session = session.core.no, code = %goaway.code, text = %goaway.text, "the peer leaves");
    // PROTOCOL 3.6.
    session.core.has_drained = goaway.code == Code::OK;
    let code = if session.core.outgoing.is_empty() { Code::OK } else { Code::CANCELLED };
    session.close(GoAway::new(code, "good-bye"), cx);
}

fn on_stream(session: &NativeSession, stream: Stream) {
    if session.core.state != State::Open {
        return;
    }
    let (router, caller) = (session.core.ctx.router.clone(), session.core.stream_caller(false));
    tasks::spawn(tasks::Kind::Stream, streams::serve(router, caller, stream));
}
