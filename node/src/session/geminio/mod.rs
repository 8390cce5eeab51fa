//! One edge's or service's connection in the reference's dialect.
//!
//! A [`Session`] is to `wire::geminio` what [`crate::session::native::Session`] is to frames: it turns
//! packets into the requests and streams of the one internal model, and back, so that the others
//! need not know which dialect their peer speaks. [`calls`] has the calls and messages, [`streams`]
//! and [`carry`] the streams, [`texts`] the errors in both languages.

mod asked;
mod calls;
mod carry;
mod facts;
mod hello;
mod streams;
mod texts;
mod tunnel;
mod unready;
mod waiting;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_wire::driver::{GeminioCx, GeminioHandler};
use limes_wire::frame::{GoAway, Role};
use limes_wire::geminio::{DEFAULT_SESSION, Event, Word};
use limes_wire::{By, CloseReason, Code, Str};
use tracing::{info, warn};

pub(crate) use streams::StreamCommand;

use crate::node::Node;
use crate::presence::{NameChange, name};
use crate::router::message::{Failure, Kind, Mail, Outbox};
use crate::router::resolve;
use crate::session::incoming::Incoming;
use crate::session::native::cancel_early;
use crate::session::outgoing::Outgoing;
use crate::tasks;
use crate::telemetry::port::Port;
use crate::transport::limiter::Permit;
use asked::Questions;
use streams::Streams;
use unready::Unready;

/// Mail that may wait for a session to be welcomed.
const EARLY_MAX: usize = 1_024;
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
    node: Arc<Node>,
    /// Local number; part of the session's identity in the tables.
    no: u64,
    role: Role,
    outbox: Outbox,
    remote: SocketAddr,
    state: State,
    /// Edge id or service id; 0 until welcomed.
    id: u64,
    welcomed: Option<Instant>,
    outgoing: Outgoing,
    /// What the peer has asked for; the numbers in `outgoing` are these.
    questions: Questions,
    incoming: Incoming,
    streams: Streams,
    /// Topics that a service's meta names.
    topics: Vec<Str>,
    early: Vec<Mail>,
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
        node: Arc<Node>,
        role: Role,
        outbox: Outbox,
        remote: SocketAddr,
        place: Permit,
    ) -> Self {
        let no = node.sessions.issue();
        let outgoing = match role {
            Role::Service => Outgoing::with_bytes(no, SERVICE_BYTES_MAX),
            _ => Outgoing::new(no),
        };
        Session {
            node,
            no,
            role,
            outbox,
            remote,
            state: State::Silent,
            id: 0,
            welcomed: None,
            outgoing,
            questions: Questions::default(),
            incoming: Incoming::default(),
            streams: Streams::new(),
            topics: Vec::new(),
            early: Vec::new(),
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
        for mail in std::mem::take(&mut self.early) {
            self.on_mail(mail, cx);
        }
    }

    fn name(&mut self, naming: NameChange, id: u64, names: Vec<Str>) {
        self.naming += 1;
        tasks::spawn(tasks::Kind::Session, name(self.node.clone(), self.no, naming, id, names));
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
        let unready = self.unready.take(|_| true).into_iter().map(|call| Mail::Request(Box::new(call)));
        let early = std::mem::take(&mut self.early).into_iter().chain(unready);
        resolve::return_undelivered(&self.node, early);
    }

    /// The peer is closing, or shall: nobody is to send it anything any more.
    fn leave(&mut self) {
        self.state = State::Leaving;
        crate::presence::session_closed(&self.node, self.no);
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
            if let Some(more) = self.node.cut(port, reason.code) {
                warn!(port = port.name(), session, id, %remote, %reason, more, "cut off (geminio)");
            }
        } else if self.state == State::Admitting {
            // It was refused, or has gone: whoever tries without end has a line now and then.
            if let Some(more) = self.node.notices.first(Port::of(role), reason.code, Instant::now()) {
                info!(session, ?role, %remote, %reason, more, "not welcomed (geminio)");
            }
        } else if self.state != State::Silent {
            info!(session, id, ?role, %remote, %reason, "closed (geminio)");
        }
    }
}

impl GeminioHandler for Session {
    type Mail = Mail;

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

    fn on_mail(&mut self, mail: Mail, cx: &mut GeminioCx) {
        let waiting = matches!(self.state, State::Admitting | State::Subscribing);
        match mail {
            Mail::Welcome(welcome) => self.admitted(welcome.id, cx),
            Mail::Close(goaway) => self.close(goaway, cx),
            mail @ (Mail::Request(_) | Mail::Open(_)) if waiting && self.early.len() < EARLY_MAX => {
                self.early.push(mail);
            }
            Mail::Request(request) if waiting => {
                request.fail(Failure::not_run(Code::BUSY, "the session is still being admitted"));
            }
            Mail::Request(request) => calls::deliver(self, request, cx),
            Mail::Routed(id, to) => self.outgoing.sent_to(id, to),
            Mail::Answer(id, answer) => calls::answered(self, id, answer, cx),
            Mail::Cancel(key) => {
                if !cancel_early(&mut self.early, key)
                    && !self.unready.cancel(key)
                    && let Some((id, Kind::Call)) = self.incoming.cancel(key)
                {
                    let _ = cx.conn.send(cx.now(), DEFAULT_SESSION, id, Word::Cancel(1));
                }
            }
            Mail::Open(reply) => streams::open(self, reply),
            Mail::Stream(wish) => streams::grant(self, *wish, cx),
            Mail::Named { id, code, text } => self.named(id, code, &text, cx),
            Mail::Retire(goaway, until) => {
                let linger = cx.now() + LINGER;
                if self.state == State::Open && self.role == Role::Service && linger < until {
                    self.lingering = Some((linger, goaway, until));
                    cx.wake_at(linger);
                } else if self.state == State::Open {
                    self.farewell = Some(goaway);
                    self.state = State::Retiring(until);
                    cx.wake_at(until);
                } else if waiting {
                    self.close(goaway, cx);
                }
            }
            Mail::Isolated(goaway) => self.close(goaway, cx),
            // The dialect cannot advise; the rest is for links.
            Mail::Advise(_) | Mail::PeerDown | Mail::Takeover { .. } | Mail::SessionOver(..) | Mail::Ping => {
            }
        }
        self.close_if_finished(cx);
    }

    fn on_timeout(&mut self, now: Instant, cx: &mut GeminioCx) {
        if let Some((linger, goaway, until)) = self.lingering.take() {
            if now < linger {
                self.lingering = Some((linger, goaway, until));
                cx.wake_at(linger);
            } else {
                self.on_mail(Mail::Retire(goaway, until.min(now + LINGER)), cx);
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
        !self.node.pressure.is_high()
    }

    fn on_closing(&mut self, unread: Vec<Mail>) {
        self.outgoing.cancel_all();
        self.fail_incoming();
        self.node.edge_methods.forget(self.no);
        crate::presence::session_closed(&self.node, self.no);
        self.return_early();
        resolve::return_undelivered(&self.node, unread);
    }

    fn on_close(self, reason: CloseReason) {
        self.node.metrics.closed(&reason);
        self.log_end(&reason);
    }
}
