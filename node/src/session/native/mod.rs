//! One edge's or service's connection: the only place that knows what its peer has in flight.
//!
//! A [`Session`] is the [`Handler`] of one connection. It is called by the one task that drives the
//! socket, never waits, and talks to others by mail. The life of a call: [`requests`] takes it from
//! the socket, [`crate::router::resolve`] finds the way, the receiver's session writes it, and the answer
//! comes back as mail.

mod requests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use limes_wire::driver::{Cx, Handler, Native, PeerEvent, Stream};
use limes_wire::frame::{Frame, GoAway, Hello, Names, Role};
use limes_wire::{By, CloseReason, Code};
use tracing::{debug, info, warn};

use crate::presence::admission::{PeerProtocol, PendingAdmission, admit};
use crate::presence::registration::NameChange;
use crate::router::message::{
    Delivery, Failure, Message, NativeMessage, SessionCommand, SessionHandle, StreamReply,
};
use crate::router::{resolve, streams};
use crate::session::context::SessionContext;
use crate::session::early::Early;
use crate::session::incoming::Incoming;
use crate::session::outgoing::Outgoing;
use crate::tasks;
use crate::telemetry::port::Port;
use crate::transport::limiter::Permit;

/// Register, withdraw, subscribe and unsubscribe requests of one service that may be undecided.
const NAMING_MAX: usize = 256;

/// Where a session is in its life.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No hello yet.
    Silent,
    /// Hello received; the tables are being asked.
    Admitting,
    /// Welcomed.
    Open,
    /// Finishing what is in flight.
    Retiring(Instant),
}

/// The handler of one edge's or service's connection.
pub(crate) struct Session {
    ctx: Arc<SessionContext>,
    /// Local number; part of the session's identity in the tables.
    no: u64,
    role: Role,
    handle: SessionHandle,
    remote: SocketAddr,
    state: State,
    /// Edge id or service id; 0 until welcomed.
    id: u64,
    outgoing: Outgoing,
    incoming: Incoming,
    early: Early,
    /// What it wants done with names, in its order; the first is being decided.
    naming: VecDeque<(NameChange, Names)>,
    /// Its place at the gate, for as long as it lives.
    place: Option<Permit>,
    /// The peer has left in order: it has answered all that it read.
    left: bool,
    /// Why it is being closed, if we said so.
    farewell: Option<Code>,
}

impl Session {
    /// A session that waits for its peer's hello.
    pub(crate) fn new(
        ctx: Arc<SessionContext>,
        role: Role,
        handle: SessionHandle,
        remote: SocketAddr,
    ) -> Self {
        let no = ctx.sessions.issue();
        Session {
            ctx,
            no,
            role,
            handle,
            remote,
            state: State::Silent,
            id: 0,
            outgoing: Outgoing::new(no),
            incoming: Incoming::default(),
            early: Early::default(),
            naming: VecDeque::new(),
            place: None,
            left: false,
            farewell: None,
        }
    }

    /// The session has this place at the gate.
    pub(crate) fn in_place(self, place: Permit) -> Self {
        Session { place: Some(place), ..self }
    }

    fn welcome(&mut self, welcome: limes_wire::frame::Welcome, cx: &mut Cx) {
        if self.state != State::Admitting {
            return;
        }
        self.id = welcome.id;
        self.state = State::Open;
        if let Some(place) = &mut self.place {
            place.welcomed();
        }
        info!(session = self.no, id = self.id, role = ?self.role, remote = %self.remote, "connected");
        cx.welcome(welcome);
        for delivery in self.early.take() {
            self.on_delivery(delivery, cx);
        }
    }

    fn close(&mut self, goaway: GoAway, cx: &mut Cx) {
        self.farewell = Some(goaway.code);
        if !self.left {
            // What it answers from here on is not read (PROTOCOL 3.6): nobody waits for the good-bye to go out.
            self.fail_incoming();
        }
        cx.close(goaway);
    }

    fn fail_incoming(&mut self) {
        let code = match self.farewell {
            Some(Code::REPLACED) => Code::REPLACED,
            _ => Code::GONE,
        };
        self.incoming.fail_all(&match self.left {
            true => Failure::not_run(Code::DRAINING, "the receiver left before it took this"),
            false => Failure::may_have_run(code, "the connection of the receiver ended before it answered"),
        });
    }

    /// Lets what is in flight finish; the peer is told to go elsewhere.
    fn retire(&mut self, goaway: GoAway, until: Instant, cx: &mut Cx) {
        self.farewell = Some(goaway.code);
        self.state = State::Retiring(until);
        cx.send(Frame::GoAway(goaway));
        cx.wake_at(until);
        self.close_if_finished(cx);
    }

    fn close_if_finished(&mut self, cx: &mut Cx) {
        let State::Retiring(until) = self.state else { return };
        if self.outgoing.is_empty() && self.incoming.is_empty() && cx.streams() == 0 {
            // PROTOCOL 3.6: what the peer has sent meanwhile was not read, and it knows.
            self.close(GoAway::new(Code::OK, "finished"), cx);
        } else if cx.now() >= until {
            let code = self.farewell.unwrap_or(Code::SHUTDOWN);
            self.close(GoAway::new(code, "not everything was finished in time"), cx);
        }
    }

    /// One line for the end of each session, and for a stranger that broke the rules.
    fn log_end(&self, reason: &CloseReason) {
        let (session, id, role, remote) = (self.no, self.id, self.role, self.remote);
        let broke_rules = matches!(
            reason.code,
            Code::PROTOCOL | Code::TOO_LARGE | Code::VERSION | Code::LIMIT | Code::HANDSHAKE_TIMEOUT
        );
        if reason.by == By::Us && broke_rules {
            let port = Port::of(role);
            if let Some(more) = self.ctx.telemetry.disconnected(port, reason.code) {
                warn!(port = port.name(), session, id, %remote, %reason, more, "cut off");
            }
        } else if self.state == State::Admitting {
            // It was refused, or has gone: whoever tries without end has a line now and then.
            if let Some(more) = self.ctx.telemetry.log.first(Port::of(role), reason.code, Instant::now()) {
                info!(session, ?role, %remote, %reason, more, "not welcomed");
            }
        } else if self.state != State::Silent {
            info!(session, id, ?role, %remote, %reason, "closed");
        }
    }

    fn on_delivery(&mut self, delivery: Delivery, cx: &mut Cx) {
        match delivery {
            early @ (Delivery::Request(_) | Delivery::Open(_)) if self.state == State::Admitting => {
                self.early.push(early);
            }
            Delivery::Request(request) => requests::deliver(self, request, cx),
            Delivery::Routed(id, to) => self.outgoing.sent_to(id, to),
            Delivery::Answer(id, answer) => requests::answered(self, id, answer, cx),
            Delivery::Cancel(key) => {
                if !self.early.cancel(key)
                    && let Some((id, _)) = self.incoming.cancel(key)
                {
                    cx.send(Frame::Cancel { id });
                }
            }
            Delivery::Open(reply) => self.open_stream(reply, cx),
        }
    }

    fn on_command(&mut self, command: SessionCommand, cx: &mut Cx) {
        match command {
            SessionCommand::Welcome(welcome) => self.welcome(*welcome, cx),
            SessionCommand::NamesDecided { id, code, text } => requests::named(self, id, code, text, cx),
            SessionCommand::Close(goaway) => self.close(goaway, cx),
            SessionCommand::Retire(goaway, until) => self.retire(goaway, until, cx),
        }
    }

    fn open_stream(&self, reply: StreamReply, cx: &mut Cx) {
        if self.state == State::Open {
            cx.open_stream(move |opened| {
                let _ = reply.send(opened);
            });
        } else {
            let _ = reply.send(Err(Code::GONE));
        }
    }
}

impl Session {
    fn on_hello(&mut self, hello: Hello, cx: &mut Cx) {
        // PROTOCOL 1.1.
        if hello.role != self.role {
            let text = format!("this port is for {:?} connections, not {:?}", self.role, hello.role);
            self.close(GoAway::new(Code::PROTOCOL, text), cx);
            return;
        }
        if hello.name.is_empty() && self.role == Role::Service {
            self.close(GoAway::new(Code::PROTOCOL, "a service needs a name"), cx);
            return;
        }
        self.state = State::Admitting;
        if let Some(place) = &self.place {
            place.spoke();
        }
        let pending = PendingAdmission {
            no: self.no,
            handle: self.handle.clone(),
            remote: self.remote,
            protocol: PeerProtocol::Native,
            hello,
        };
        tasks::spawn(tasks::Kind::Session, admit(self.ctx.presence.clone(), pending));
    }

    fn on_goaway(&mut self, goaway: GoAway, cx: &mut Cx) {
        debug!(session = self.no, code = %goaway.code, text = %goaway.text, "peer is leaving");
        // PROTOCOL 3.6.
        self.left = goaway.code == Code::OK;
        let code = if self.outgoing.is_empty() { Code::OK } else { Code::CANCELLED };
        self.close(GoAway::new(code, "good-bye"), cx);
    }

    fn on_stream(&mut self, stream: Stream) {
        if self.state != State::Open {
            return;
        }
        let caller = streams::Caller { role: self.role, id: self.id, remote: self.remote, tunnel: false };
        tasks::spawn(tasks::Kind::Stream, streams::serve(self.ctx.router.clone(), caller, stream));
    }
}

impl Handler for Session {
    type Protocol = Native;
    type Mail = NativeMessage;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx) {
        match event {
            PeerEvent::Hello(hello) => self.on_hello(hello, cx),
            PeerEvent::Welcome(_) => {
                self.close(GoAway::new(Code::PROTOCOL, "only the gateway sends a welcome"), cx);
            }
            PeerEvent::Frame(frame) => {
                requests::on_frame(self, frame, cx);
                self.close_if_finished(cx);
            }
            PeerEvent::GoAway(goaway) => self.on_goaway(goaway, cx),
            PeerEvent::Stream(stream) => self.on_stream(stream),
            PeerEvent::Silence(silent) => self.ctx.sessions.set_silent(self.no, silent),
        }
    }

    fn on_mail(&mut self, message: NativeMessage, cx: &mut Cx) {
        match message {
            NativeMessage::Delivery(delivery) => self.on_delivery(delivery, cx),
            NativeMessage::Command(command) => self.on_command(command, cx),
            NativeMessage::Advise(goaway) => {
                if self.state == State::Open {
                    cx.send(Frame::GoAway(goaway));
                }
            }
        }
        self.close_if_finished(cx);
    }

    fn on_timeout(&mut self, now: Instant, cx: &mut Cx) {
        requests::expire(self, now, cx);
        self.close_if_finished(cx);
    }

    fn may_hold(&self) -> bool {
        !self.ctx.memory.is_high()
    }

    fn on_closing(&mut self, unread: Vec<NativeMessage>) {
        self.outgoing.cancel_all();
        self.fail_incoming();
        self.ctx.presence.session_closed(self.no);
        let unread = unread.into_iter().filter_map(Message::into_delivery);
        let unread = self.early.take().into_iter().chain(unread);
        resolve::return_undelivered(&self.ctx.router, unread);
    }

    fn on_close(self, reason: CloseReason) {
        self.ctx.telemetry.metrics.closed(&reason);
        self.log_end(&reason);
    }
}
