//! The handler of one session's connection, for both protocols.
//!
//! The one task that drives the socket calls it. It never waits and talks to other tasks by messages. A call takes
//! these steps: the protocol decodes it and calls [`Session::send`]; [`crate::router::resolve`] resolves the route; the
//! receiver's session writes it ([`Session::deliver`]); the answer returns as a [`Delivery::Answer`].

use std::time::Instant;

use bytes::Bytes;
use limes_wire::driver::{Handler, HandlerCx, Protocol};
use limes_wire::frame::{GoAway, Welcome};
use limes_wire::{CloseReason, Code, Str};

use super::core::SessionCore;
use super::state::State;
use crate::router::message::{
    Address, Answer, Delivery, Failure, Key, Kind, Message, Origin, Request, SessionCommand, StreamReply,
};
use crate::router::resolve;

/// The connection of a session of protocol `P` for the length of one call of the handler.
pub(super) type WireCx<'a, P> = HandlerCx<'a, <P as SessionProtocol>::Wire>;

/// What a session's protocol does: it translates between its wire and the messages of the router. A value holds what
/// only that protocol keeps for each session.
pub(crate) trait SessionProtocol: Sized + Send + 'static {
    /// The protocol as the driver runs it.
    type Wire: Protocol;
    /// The mailbox item.
    type Message: Message<Delivery = Delivery, Command = SessionCommand>;
    /// Its name in log lines.
    const NAME: &'static str;
    /// Codes with which this side closes a connection whose peer broke a rule or crossed a limit.
    const OFFENCES: &'static [Code];

    /// The peer did something.
    fn on_event(
        session: &mut Session<Self>,
        event: <Self::Wire as Protocol>::Event,
        cx: &mut WireCx<'_, Self>,
    );
    /// Another task sent a message.
    fn on_message(session: &mut Session<Self>, message: Self::Message, cx: &mut WireCx<'_, Self>);
    /// A requested time has come. Implementations call [`Session::expire_requests`].
    fn on_timeout(session: &mut Session<Self>, now: Instant, cx: &mut WireCx<'_, Self>);
    /// The cluster has admitted the peer, whose id is set: welcome it.
    fn admitted(session: &mut Session<Self>, welcome: Welcome, cx: &mut WireCx<'_, Self>);
    /// A change of names is decided.
    fn names_decided(
        session: &mut Session<Self>,
        id: u64,
        code: Code,
        text: String,
        cx: &mut WireCx<'_, Self>,
    );
    /// Closes the session; its peer learns the reason as far as the protocol can express it.
    fn close(session: &mut Session<Self>, goaway: GoAway, cx: &mut WireCx<'_, Self>);
    /// Lets what is in flight finish until this instant.
    fn retire(session: &mut Session<Self>, goaway: GoAway, until: Instant, cx: &mut WireCx<'_, Self>);
    /// Closes a retiring session that has nothing left in flight or whose time is over.
    fn close_if_finished(session: &mut Session<Self>, cx: &mut WireCx<'_, Self>);

    /// Whether requests may still be written to the peer.
    fn is_served(session: &Session<Self>, now: Instant) -> bool;
    /// Writes an admitted request to the peer, under this id.
    fn write_request(session: &mut Session<Self>, id: u64, request: Box<Request>, cx: &mut WireCx<'_, Self>);
    /// Writes the answer to a request of the peer, and counts it.
    fn write_answer(
        session: &mut Session<Self>,
        kind: Kind,
        id: u64,
        answer: Answer,
        cx: &mut WireCx<'_, Self>,
    );
    /// Tells the peer that the caller of a request no longer waits.
    fn write_cancel(session: &mut Session<Self>, kind: Kind, id: u64, cx: &mut WireCx<'_, Self>);
    /// Opens a stream to the peer of an open session.
    fn open_stream(session: &mut Session<Self>, reply: StreamReply, cx: &mut WireCx<'_, Self>);

    /// Delays a request that the peer cannot serve yet; returns it if it is to be written now.
    fn hold(_: &mut Session<Self>, request: Box<Request>, _: &mut WireCx<'_, Self>) -> Option<Box<Request>> {
        Some(request)
    }
    /// Ends a delayed request whose caller has cancelled it; false: it is not delayed.
    fn cancel_held(_: &mut Session<Self>, _: Key) -> bool {
        false
    }
    /// Releases what the protocol keeps, when the connection begins to close. Returns the delayed requests.
    fn release(_: &mut Session<Self>) -> Vec<Request> {
        Vec::new()
    }
}

/// A call or message of the peer.
pub(super) struct PeerRequest {
    /// Call or message.
    pub(super) kind: Kind,
    /// The session's number for it, unique among those in flight.
    pub(super) id: u64,
    /// The receiver.
    pub(super) to: Address,
    /// Selects among services.
    pub(super) key: u64,
    /// When the session gives up.
    pub(super) deadline: Instant,
    /// Method or topic.
    pub(super) name: Str,
    /// What accompanies the payload.
    pub(super) custom: Bytes,
    /// The payload.
    pub(super) body: Bytes,
    /// As in [`Request::patient`].
    pub(super) patient: bool,
}

/// One session: the shared core and the protocol's own part.
pub(crate) struct Session<P> {
    pub(super) core: SessionCore,
    pub(super) protocol: P,
}

impl<P: SessionProtocol> Session<P> {
    /// Checks a request of the peer against the limits of its connection (PROTOCOL 4.1 and 9.2) and dispatches it.
    pub(super) fn send(&mut self, request: PeerRequest, cx: &mut WireCx<'_, P>) {
        let PeerRequest { kind, id, to, key, deadline, name, custom, body, patient } = request;
        let core = &mut self.core;
        let times = (cx.now(), deadline);
        let bytes = body.len() + custom.len();
        if let Err(failure) = core.outgoing.admit(&core.ctx, id, kind, times, bytes) {
            return self.refuse(kind, id, failure, cx);
        }
        if let Some(at) = core.outgoing.next_deadline() {
            cx.wake_at(at);
        }
        let request = Box::new(Request {
            kind,
            origin: Origin::Session(core.no, core.handle.clone()),
            id,
            to,
            caller: core.caller(),
            key,
            deadline,
            name,
            custom,
            body,
            patient,
            tried: None,
        });
        if let Some(to) = resolve::dispatch(&core.ctx.router, request) {
            core.outgoing.sent_to(id, to);
        }
    }

    /// Answers a request of the peer that is not dispatched.
    pub(super) fn refuse(&mut self, kind: Kind, id: u64, failure: Failure, cx: &mut WireCx<'_, P>) {
        P::write_answer(self, kind, id, Answer::Failed(failure), cx);
    }

    /// Takes a request of another task for the peer.
    fn deliver(&mut self, request: Box<Request>, cx: &mut WireCx<'_, P>) {
        if let Some(request) = P::hold(self, request, cx) {
            self.write(request, cx);
        }
    }

    /// Writes a request of another task to the peer, or returns it to the router.
    pub(super) fn write(&mut self, request: Box<Request>, cx: &mut WireCx<'_, P>) {
        let now = cx.now();
        if !P::is_served(self, now) {
            return resolve::return_undelivered(&self.core.ctx.router, [Delivery::Request(request)]);
        }
        match self.core.incoming.admit(&request, now, self.core.ctx.limits.calls) {
            Ok(id) => P::write_request(self, id, request, cx),
            Err(failure) => request.fail(failure),
        }
    }

    /// A request of the peer has ended at its receiver.
    fn answered(&mut self, id: u64, answer: Answer, cx: &mut WireCx<'_, P>) {
        if let Some(sent) = self.core.outgoing.complete(id) {
            sent.measure(&self.core.ctx.telemetry.metrics, self.core.role, answer.code(), cx.now());
            P::write_answer(self, sent.kind, id, answer, cx);
        }
    }

    /// Fails the peer's requests that are past their deadline, and asks to be called for the next.
    pub(super) fn expire_requests(&mut self, now: Instant, cx: &mut WireCx<'_, P>) {
        for (id, kind) in self.core.outgoing.expired(now) {
            self.core.outgoing.measure_expired(id, &self.core.ctx.telemetry.metrics, self.core.role, now);
            let failure = Failure::may_have_run(Code::TIMEOUT, "no answer within the deadline");
            P::write_answer(self, kind, id, Answer::Failed(failure), cx);
        }
        if let Some(at) = self.core.outgoing.next_deadline() {
            cx.wake_at(at);
        }
    }

    /// Takes a delivery of another task.
    pub(super) fn on_delivery(&mut self, delivery: Delivery, cx: &mut WireCx<'_, P>) {
        match delivery {
            early @ (Delivery::Request(_) | Delivery::Open(_)) if self.core.state.is_being_admitted() => {
                self.core.early.push(early);
            }
            Delivery::Request(request) => self.deliver(request, cx),
            Delivery::Routed(id, to) => self.core.outgoing.sent_to(id, to),
            Delivery::Answer(id, answer) => self.answered(id, answer, cx),
            Delivery::Cancel(key) => {
                if !self.core.early.cancel(key)
                    && !P::cancel_held(self, key)
                    && let Some((id, kind)) = self.core.incoming.cancel(key)
                {
                    P::write_cancel(self, kind, id, cx);
                }
            }
            Delivery::Open(reply) if self.core.state == State::Open => P::open_stream(self, reply, cx),
            Delivery::Open(reply) => {
                let _ = reply.send(Err(Code::GONE));
            }
        }
    }

    /// Executes a command of another task.
    pub(super) fn on_command(&mut self, command: SessionCommand, cx: &mut WireCx<'_, P>) {
        match command {
            SessionCommand::Welcome(welcome) if self.core.state == State::Admitting => {
                self.core.id = Some(welcome.id);
                P::admitted(self, *welcome, cx);
            }
            // The session has begun to close meanwhile.
            SessionCommand::Welcome(_) => {}
            SessionCommand::NamesDecided { id, code, text } => P::names_decided(self, id, code, text, cx),
            SessionCommand::Close(goaway) => P::close(self, goaway, cx),
            SessionCommand::Retire(goaway, until) => P::retire(self, goaway, until, cx),
        }
    }

    /// Delivers what arrived before the welcome.
    pub(super) fn deliver_early(&mut self, cx: &mut WireCx<'_, P>) {
        for delivery in self.core.early.take() {
            self.on_delivery(delivery, cx);
        }
    }

    /// Closes the session for a reason of the session itself.
    pub(super) fn close(&mut self, goaway: GoAway, cx: &mut WireCx<'_, P>) {
        P::close(self, goaway, cx);
    }
}

impl<P: SessionProtocol> Handler for Session<P> {
    type Protocol = P::Wire;
    type Message = P::Message;

    fn on_event(&mut self, event: <P::Wire as Protocol>::Event, cx: &mut WireCx<'_, P>) {
        P::on_event(self, event, cx);
    }

    fn on_message(&mut self, message: P::Message, cx: &mut WireCx<'_, P>) {
        P::on_message(self, message, cx);
        P::close_if_finished(self, cx);
    }

    fn on_timeout(&mut self, now: Instant, cx: &mut WireCx<'_, P>) {
        P::on_timeout(self, now, cx);
        P::close_if_finished(self, cx);
    }

    fn may_hold(&self) -> bool {
        !self.core.ctx.memory.is_high()
    }

    fn on_closing(&mut self, unread: Vec<P::Message>) {
        self.core.outgoing.cancel_all();
        self.core.fail_incoming();
        let held = P::release(self).into_iter().map(|request| Delivery::Request(Box::new(request)));
        self.core.ctx.presence.session_closed(self.core.no);
        let unread = unread.into_iter().filter_map(Message::into_delivery);
        let undelivered = self.core.early.take().into_iter().chain(held).chain(unread);
        resolve::return_undelivered(&self.core.ctx.router, undelivered);
    }

    fn on_close(self, reason: CloseReason) {
        self.core.ctx.telemetry.metrics.closed(&reason);
        self.core.log_end(&reason, P::NAME, P::OFFENCES);
    }
}
