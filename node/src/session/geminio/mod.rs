//! One edge's or service's connection in the reference's dialect.
//!
//! A [`Session`] is to `wire::geminio` what [`crate::session::native::Session`] is to frames: it turns
//! packets into the requests and streams of the one internal model, and back, so that the others
//! need not know which dialect their peer speaks. [`calls`] has the calls and messages, [`streams`]
//! and [`carry`] the streams, [`texts`] the errors in both languages.

mod calls;
mod carry;
mod facts;
mod hello;
mod pending_requests;
mod streams;
mod texts;
mod tunnel;
mod unready;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_wire::driver::{GeminioCx, Handler};
use limes_wire::frame::{GoAway, Role};
use limes_wire::geminio::{DEFAULT_SESSION, Event, Word};
use limes_wire::{By, CloseReason, Code, Str};
use tracing::{info, warn};

use crate::presence::registration::{NameChange, change_names};
use crate::router::message::{Delivery, Failure, GeminioMessage, Kind, Message, SessionCommand, TaskHandle};
use crate::router::resolve;
use crate::session::context::SessionContext;
use crate::session::early::Early;
use crate::session::incoming::Incoming;
use crate::session::outgoing::Outgoing;
use crate::tasks;
use crate::telemetry::port::Port;
use crate::transport::limiter::Permit;
use pending_requests::PendingRequests;
use streams::Streams;
use unready::Unready;

/// A client that is accepted and cut off within a second of it never comes back: it must be left
/// alone for a little longer than that.
const SETTLE: Duration = Duration::from_millis(1_500);
/// How long a service is served as ever by a node that leaves: its client, if it is the reference's for
/// clusters, asks every 10 s where the nodes are, and goes by itself then, without an error.
const LINGER: Duration = Duration::from_secs(12);
/// Bytes of requests that a service may have in flight. Its one connection calls all edges, and the reference
/// knows no limit: an error is one more than its client for clusters survives.
const SERVICE_BYTES_MAX: usize = 256 << 20;
/// Packet id under which the topics of a service's meta are subscribed; no client's id is so small.
const TOPICS: u64 = 0;

/// Where a session is in its life.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No Conn yet.
    Silent,
    /// The tables are being asked.
    Admitting,
    /// A service's topics are on their way into the tables.
    Subscribing,
    /// Accepted.
    Open,
    /// Finishing what is in flight.
    Retiring(Instant),
    /// The peer is closing; its streams are still heard.
    Leaving,
    /// To be cut off at that time.
    Doomed(Instant),
}

/// The handler of one geminio connection.
pub(crate) struct Session {
    ctx: Arc<SessionContext>,
    /// Local number; part of the session's identity in the tables.
    no: u64,
    role: Role,
    handle: TaskHandle<GeminioMessage>,
    remote: SocketAddr,
    state: State,
    /// Edge id or service id; 0 until welcomed.
    id: u64,
    welcomed: Option<Instant>,
    outgoing: Outgoing,
    /// What the peer has asked for; the numbers in `outgoing` are these.
    questions: PendingRequests,
    incoming: Incoming,
    streams: Streams,
    /// Topics that a service's meta names.
    topics: Vec<Str>,
    early: Early,
    unready: Unready,
    naming: usize,
    /// Its place at the gate, for as long as it lives.
    place: Permit,
    /// Why it is being closed, if we said so.
    farewell: Option<GoAway>,
    /// When a service shall begin to finish, and until when it may take, though it is served as ever.
    lingering: Option<(Instant, GoAway, Instant)>,
}

impl Session {
    /// A session that waits for its peer's Conn.
    pub(crate) fn new(
        ctx: Arc<SessionContext>,
        role: Role,
        handle: TaskHandle<GeminioMessage>,
        remote: SocketAddr,
        place: Permit,
    ) -> Self {
        let no = ctx.sessions.issue();
        let outgoing = match role {
            Role::Service => Outgoing::with_bytes(no, SERVICE_BYTES_MAX),
            _ => Outgoing::new(no),
        };
        Session {
            ctx,
            no,
            role,
            handle,
            remote,
            state: State::Silent,
            id: 0,
            welcomed: None,
            outgoing,
            questions: PendingRequests::default(),
            incoming: Incoming::default(),
            streams: Streams::new(),
            topics: Vec::new(),
            early: Early::default(),
            unready: Unready::default(),
            naming: 0,
            place,
            farewell: None,
            lingering: None,
        }
    }

    /// The session is in the tables.
    fn admitted(&mut self, id: u64, cx: &mut GeminioCx) {
        if self.state != State::Admitting {
            return;
        }
        self.id = id;
        if self.topics.is_empty() {
            return self.welcome(cx);
        }
        self.state = State::Subscribing;
        self.name(NameChange::Subscribe, TOPICS, self.topics.clone());
    }

    fn welcome(&mut self, cx: &mut GeminioCx) {
        self.state = State::Open;
        self.welcomed = Some(cx.now());
        self.place.welcomed();
        info!(session = self.no, id = self.id, role = ?self.role, remote = %self.remote, "connected (geminio)");
        cx.conn.welcome(self.id);
        for delivery in self.early.take() {
            self.on_delivery(delivery, cx);
        }
    }

    fn name(&mut self, naming: NameChange, id: u64, names: Vec<Str>) {
        self.naming += 1;
        tasks::spawn(
            tasks::Kind::Session,
            change_names(self.ctx.presence.clone(), self.no, naming, id, names),
        );
    }

    /// A registration, or the topics, have been decided.
    fn named(&mut self, id: u64, code: Code, text: &str, cx: &mut GeminioCx) {
        self.naming = self.naming.saturating_sub(1);
        if code != Code::OK {
            // The client takes any answer for a success: only a new connection tries again.
            self.close(GoAway::new(code, text), cx);
        } else if id == TOPICS {
            if self.state == State::Subscribing {
                self.welcome(cx);
            }
        } else {
            let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, Word::RegisterAck(String::new()));
        }
    }

    /// Ends the connection: with a text if the peer has not been accepted yet, else without.
    fn close(&mut self, goaway: GoAway, cx: &mut GeminioCx) {
        let reason = CloseReason::us(goaway.code, goaway.text.clone());
        if matches!(self.state, State::Silent | State::Admitting | State::Subscribing) {
            cx.conn.refuse(self.id, &goaway.text);
        }
        self.farewell = Some(goaway);
        // What it answers from here on is not read: nobody waits for what is queued to go out.
        self.fail_incoming();
        match self.welcomed.map(|welcomed| welcomed + SETTLE) {
            Some(at) if cx.now() < at => {
                self.state = State::Doomed(at);
                self.return_early();
                cx.wake_at(at);
            }
            _ => cx.close(reason),
        }
    }

    /// The peer answers no more: what it was asked may have run.
    fn fail_incoming(&mut self) {
        let code = match &self.farewell {
            Some(goaway) if goaway.code == Code::REPLACED => Code::REPLACED,
            _ => Code::GONE,
        };
        let text = "the connection of the receiver ended before it answered";
        self.incoming.fail_all(&Failure::may_have_run(code, text));
    }

    /// What was not written to the peer looks for another way.
    fn return_early(&mut self) {
        let unready = self.unready.take(|_| true).into_iter().map(|call| Delivery::Request(Box::new(call)));
        let early = self.early.take().into_iter().chain(unready);
        resolve::return_undelivered(&self.ctx.router, early);
    }

    /// The peer is closing, or shall: nobody is to send it anything any more.
    fn leave(&mut self) {
        self.state = State::Leaving;
        self.ctx.presence.session_closed(self.no);
    }

    fn close_if_finished(&mut self, cx: &mut GeminioCx) {
        let (until, finished) = match self.state {
            State::Retiring(until) => {
                // A stream that is being closed counts: its client may hold a tail that nobody has read.
                let streams = !self.streams.is_empty() || cx.conn.streams() > 0;
                let asks_nothing = self.outgoing.is_empty() && !streams;
                let finished = asks_nothing && self.incoming.is_empty() && self.unready.is_empty();
                // Until it may be cut off it is served, rather than kept to no use.
                let settled = self.welcomed.map_or(cx.now(), |welcomed| welcomed + SETTLE);
                if finished && cx.now() < settled {
                    cx.wake_at(settled);
                }
                (until, finished && cx.now() >= settled)
            }
            State::Doomed(until) => (until, false),
            _ => return,
        };
        if finished || cx.now() >= until {
            let goaway = self.farewell.clone().unwrap_or_else(|| GoAway::new(Code::SHUTDOWN, "finished"));
            self.close(goaway, cx);
        }
    }

    fn log_end(&self, reason: &CloseReason) {
        let (session, id, role, remote) = (self.no, self.id, self.role, self.remote);
        let broke_rules = matches!(
            reason.code,
            Code::PROTOCOL | Code::TOO_LARGE | Code::LIMIT | Code::HANDSHAKE_TIMEOUT | Code::KEEPALIVE
        );
        if reason.by == By::Us && broke_rules {
            let port = Port::of(role);
            if let Some(more) = self.ctx.telemetry.disconnected(port, reason.code) {
                warn!(port = port.name(), session, id, %remote, %reason, more, "cut off (geminio)");
            }
        } else if self.state == State::Admitting {
            // It was refused, or has gone: whoever tries without end has a line now and then.
            if let Some(more) = self.ctx.telemetry.log.first(Port::of(role), reason.code, Instant::now()) {
                info!(session, ?role, %remote, %reason, more, "not welcomed (geminio)");
            }
        } else if self.state != State::Silent {
            info!(session, id, ?role, %remote, %reason, "closed (geminio)");
        }
    }
}

impl Session {
    fn is_being_admitted(&self) -> bool {
        matches!(self.state, State::Admitting | State::Subscribing)
    }

    fn on_delivery(&mut self, delivery: Delivery, cx: &mut GeminioCx) {
        match delivery {
            early @ (Delivery::Request(_) | Delivery::Open(_)) if self.is_being_admitted() => {
                self.early.push(early);
            }
            Delivery::Request(request) => calls::deliver(self, request, cx),
            Delivery::Routed(id, to) => self.outgoing.sent_to(id, to),
            Delivery::Answer(id, answer) => calls::answered(self, id, answer, cx),
            Delivery::Cancel(key) => {
                if !self.early.cancel(key)
                    && !self.unready.cancel(key)
                    && let Some((id, Kind::Call)) = self.incoming.cancel(key)
                {
                    let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, Word::Cancel(1));
                }
            }
            Delivery::Open(reply) => streams::open(self, reply),
        }
    }

    fn on_command(&mut self, command: SessionCommand, cx: &mut GeminioCx) {
        match command {
            SessionCommand::Welcome(welcome) => self.admitted(welcome.id, cx),
            SessionCommand::NamesDecided { id, code, text } => self.named(id, code, &text, cx),
            SessionCommand::Close(goaway) => self.close(goaway, cx),
            SessionCommand::Retire(goaway, until) => self.retire(goaway, until, cx),
        }
    }

    fn retire(&mut self, goaway: GoAway, until: Instant, cx: &mut GeminioCx) {
        let linger = cx.now() + LINGER;
        if self.state == State::Open && self.role == Role::Service && linger < until {
            self.lingering = Some((linger, goaway, until));
            cx.wake_at(linger);
        } else if self.state == State::Open {
            self.farewell = Some(goaway);
            self.state = State::Retiring(until);
            cx.wake_at(until);
        } else if self.is_being_admitted() {
            self.close(goaway, cx);
        }
    }
}

impl Handler for Session {
    type Protocol = limes_wire::geminio::Conn;
    type Mail = GeminioMessage;

    fn on_event(&mut self, event: Event, cx: &mut GeminioCx) {
        match event {
            Event::Hello(hello) => hello::on_hello(self, hello, cx),
            Event::Word(DEFAULT_SESSION, id, word) => calls::on_word(self, id, word, cx),
            Event::Word(session, id, word) => streams::heard(self, session, id, word, cx),
            Event::Opening { session, peer, meta } => streams::opening(self, session, &peer, meta, cx),
            Event::Accepted(session) => self.streams.accepted(session),
            Event::Ended(session) => streams::ended(self, session, cx),
            Event::Leaving => self.leave(),
            Event::Over => {}
        }
        self.close_if_finished(cx);
    }

    fn on_mail(&mut self, message: GeminioMessage, cx: &mut GeminioCx) {
        match message {
            GeminioMessage::Delivery(delivery) => self.on_delivery(delivery, cx),
            GeminioMessage::Command(command) => self.on_command(command, cx),
            GeminioMessage::Stream(command) => streams::execute(self, *command, cx),
        }
        self.close_if_finished(cx);
    }

    fn on_timeout(&mut self, now: Instant, cx: &mut GeminioCx) {
        if let Some((linger, goaway, until)) = self.lingering.take() {
            if now < linger {
                self.lingering = Some((linger, goaway, until));
                cx.wake_at(linger);
            } else {
                self.retire(goaway, until.min(now + LINGER), cx);
                self.close_if_finished(cx);
            }
        }
        calls::expire(self, now, cx);
        streams::expire(self, now, cx);
        unready::expire(self, now, cx);
        if let State::Retiring(at) | State::Doomed(at) = self.state {
            cx.wake_at(at);
        }
        self.close_if_finished(cx);
    }

    fn may_hold(&self) -> bool {
        !self.ctx.memory.is_high()
    }

    fn on_closing(&mut self, unread: Vec<GeminioMessage>) {
        self.outgoing.cancel_all();
        self.fail_incoming();
        self.ctx.edge_methods.forget(self.no);
        self.ctx.presence.session_closed(self.no);
        self.return_early();
        let unread = unread.into_iter().filter_map(Message::into_delivery);
        resolve::return_undelivered(&self.ctx.router, unread);
    }

    fn on_close(self, reason: CloseReason) {
        self.ctx.telemetry.metrics.closed(&reason);
        self.log_end(&reason);
    }
}
