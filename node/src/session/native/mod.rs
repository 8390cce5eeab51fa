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
use std::time::{Duration, Instant};

use limes_wire::driver::{Cx, Handler, Stream};
use limes_wire::frame::{Frame, GoAway, Hello, Names, Role};
use limes_wire::{By, CloseReason, Code};
use tracing::{debug, info, warn};

use crate::node::Node;
use crate::presence::{Dialect, NameChange, Newcomer};
use crate::router::message::{Failure, Key, Mail, Outbox};
use crate::router::{resolve, streams};
use crate::session::incoming::Incoming;
use crate::session::outgoing::Outgoing;
use crate::tasks;
use crate::telemetry::port::Port;
use crate::transport::limiter::Permit;

/// Mail that may wait for a session to be welcomed.
const EARLY_MAX: usize = 1_024;
/// Register, withdraw, subscribe and unsubscribe requests of one service that may be undecided.
const NAMING_MAX: usize = 256;
/// How long a session that is retired may finish what is in flight.
pub(crate) const RETIRE: Duration = Duration::from_secs(30);

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
    node: Arc<Node>,
    /// Local number; part of the session's identity in the tables.
    no: u64,
    role: Role,
    outbox: Outbox,
    remote: SocketAddr,
    state: State,
    /// Edge id or service id; 0 until welcomed.
    id: u64,
    outgoing: Outgoing,
    incoming: Incoming,
    early: Vec<Mail>,
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
    pub(crate) fn new(node: Arc<Node>, role: Role, outbox: Outbox, remote: SocketAddr) -> Self {
        let no = node.sessions.issue();
        Session {
            node,
            no,
            role,
            outbox,
            remote,
            state: State::Silent,
            id: 0,
            outgoing: Outgoing::new(no),
            incoming: Incoming::default(),
            early: Vec::new(),
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
        for mail in std::mem::take(&mut self.early) {
            self.on_mail(mail, cx);
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
            if let Some(more) = self.node.cut(port, reason.code) {
                warn!(port = port.name(), session, id, %remote, %reason, more, "cut off");
            }
        } else if self.state == State::Admitting {
            // It was refused, or has gone: whoever tries without end has a line now and then.
            if let Some(more) = self.node.notices.first(Port::of(role), reason.code, Instant::now()) {
                info!(session, ?role, %remote, %reason, more, "not welcomed");
            }
        } else if self.state != State::Silent {
            info!(session, id, ?role, %remote, %reason, "closed");
        }
    }

    fn open_stream(&self, reply: streams::Opened, cx: &mut Cx) {
        if self.state == State::Open {
            cx.open_stream(move |opened| {
                let _ = reply.send(opened);
            });
        } else {
            let _ = reply.send(Err(Code::GONE));
        }
    }
}

/// Ends a request that waits for its session to be welcomed, and whose caller does not wait any more; false:
/// it is not there.
pub(crate) fn cancel_early(early: &mut Vec<Mail>, key: Key) -> bool {
    let at = early.iter().position(|mail| matches!(mail, Mail::Request(request) if request.key() == key));
    if let Some(Mail::Request(request)) = at.map(|at| early.remove(at)) {
        request.unwanted();
        return true;
    }
    false
}

impl Handler for Session {
    type Mail = Mail;

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
        let newcomer = Newcomer {
            no: self.no,
            outbox: self.outbox.clone(),
            remote: self.remote,
            dialect: Dialect::Native,
            hello,
        };
        tasks::spawn(tasks::Kind::Session, crate::presence::admit(self.node.clone(), newcomer));
    }

    fn on_welcome(&mut self, _: limes_wire::frame::Welcome, cx: &mut Cx) {
        self.close(GoAway::new(Code::PROTOCOL, "only the gateway says welcome"), cx);
    }

    fn on_frame(&mut self, frame: Frame, cx: &mut Cx) {
        requests::on_frame(self, frame, cx);
        self.close_if_finished(cx);
    }

    fn on_goaway(&mut self, goaway: GoAway, cx: &mut Cx) {
        debug!(session = self.no, code = %goaway.code, text = %goaway.text, "peer is leaving");
        // PROTOCOL 3.6.
        self.left = goaway.code == Code::OK;
        let code = if self.outgoing.is_empty() { Code::OK } else { Code::CANCELLED };
        self.close(GoAway::new(code, "good-bye"), cx);
    }

    fn on_mail(&mut self, mail: Mail, cx: &mut Cx) {
        match mail {
            Mail::Welcome(welcome) => self.welcome(*welcome, cx),
            Mail::Close(goaway) => self.close(goaway, cx),
            Mail::Request(request) if self.state == State::Admitting => {
                if self.early.len() < EARLY_MAX {
                    self.early.push(Mail::Request(request));
                } else {
                    request.fail(Failure::not_run(Code::BUSY, "the session is still being admitted"));
                }
            }
            Mail::Open(reply) if self.state == State::Admitting && self.early.len() < EARLY_MAX => {
                self.early.push(Mail::Open(reply));
            }
            Mail::Request(request) => requests::deliver(self, request, cx),
            Mail::Routed(id, to) => self.outgoing.sent_to(id, to),
            Mail::Answer(id, answer) => requests::answered(self, id, answer, cx),
            Mail::Cancel(key) => {
                if !cancel_early(&mut self.early, key)
                    && let Some((id, _)) = self.incoming.cancel(key)
                {
                    cx.send(Frame::Cancel { id });
                }
            }
            Mail::Open(reply) => self.open_stream(reply, cx),
            Mail::Named { id, code, text } => requests::named(self, id, code, text, cx),
            Mail::Advise(goaway) if self.state == State::Open => {
                cx.send(Frame::GoAway(goaway));
            }
            Mail::Advise(_) => {}
            Mail::Retire(goaway, until) => self.retire(goaway, until, cx),
            // It was advised, and looks for another node by itself; the rest is for others.
            Mail::Isolated(_)
            | Mail::PeerDown
            | Mail::Takeover { .. }
            | Mail::SessionOver(..)
            | Mail::Ping
            | Mail::Stream(_) => {}
        }
        self.close_if_finished(cx);
    }

    fn on_stream(&mut self, stream: Stream, _: &mut Cx) {
        if self.state != State::Open {
            return;
        }
        let caller = streams::Caller { role: self.role, id: self.id, remote: self.remote, tunnel: false };
        tasks::spawn(tasks::Kind::Stream, streams::serve(self.node.clone(), caller, stream));
    }

    fn on_timeout(&mut self, now: Instant, cx: &mut Cx) {
        requests::expire(self, now, cx);
        self.close_if_finished(cx);
    }

    fn on_silence(&mut self, silent: bool, _: &mut Cx) {
        self.node.sessions.set_silent(self.no, silent);
    }

    fn may_hold(&self) -> bool {
        !self.node.pressure.is_high()
    }

    fn on_closing(&mut self, unread: Vec<Mail>) {
        self.outgoing.cancel_all();
        self.fail_incoming();
        crate::presence::session_closed(&self.node, self.no);
        let unread = std::mem::take(&mut self.early).into_iter().chain(unread);
        resolve::return_undelivered(&self.node, unread);
    }

    fn on_close(self, reason: CloseReason) {
        self.node.metrics.closed(&reason);
        self.log_end(&reason);
    }
}
