//! One connection between two nodes. The node that dialled sends requests; the other delivers them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use limes_routing::{NodeId, Revision};
use limes_wire::driver::{Cx, Handler, Native, PeerEvent};
use limes_wire::frame::{Frame, GoAway, Hello, Welcome};
use limes_wire::{By, CloseReason, Code};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::codec::{self, MeshFrame};
use super::context::MeshContext;
use super::handshake;
use crate::presence::admission::TAKEOVER_WAIT;
use crate::router::edge_routes::EdgeLocation;
use crate::router::message::{
    Address, Answer, Delivery, DeliveryError, Destination, Failure, Freshness, Key, LinkCommand, LinkHandle,
    LinkMessage, Message, Origin, Request,
};
use crate::router::peers::Reachability;
use crate::router::resolve::{self, find_local};
use crate::router::streams;
use crate::session::outgoing::Outgoing;
use crate::tasks;
use crate::telemetry::port::Port;
use crate::transport::limiter::Permit;

/// The handler of a connection to another node.
pub(crate) struct Link {
    mesh: Arc<MeshContext>,
    no: u64,
    handle: LinkHandle,
    /// The other node, once known.
    peer: Option<NodeId>,
    open: bool,
    /// What this node has sent over the link, by its number on the link.
    forwarded: HashMap<u64, Box<Request>>,
    by_key: HashMap<Key, u64>,
    last: u64,
    /// What the other node has sent for sessions here.
    serving: Outgoing,
    /// Takeover notifications that the other node has not confirmed yet.
    notified: HashMap<u64, oneshot::Sender<()>>,
    /// SessionRegistry at the other end that are over, and when what they were sent ends.
    over: Vec<(Instant, Destination, Code)>,
    ready: Option<oneshot::Sender<NodeId>>,
    /// SessionOwner dialled us, and its place at the gate until it has said which node it is.
    guest: Option<(SocketAddr, Permit)>,
}

impl Link {
    /// The accepting end.
    pub(crate) fn accepted(
        mesh: Arc<MeshContext>,
        handle: LinkHandle,
        remote: SocketAddr,
        place: Permit,
    ) -> Self {
        Link { guest: Some((remote, place)), ..Link::new(mesh, handle) }
    }

    fn new(mesh: Arc<MeshContext>, handle: LinkHandle) -> Self {
        let no = mesh.sessions.issue();
        Link {
            mesh,
            no,
            handle,
            peer: None,
            open: false,
            forwarded: HashMap::new(),
            by_key: HashMap::new(),
            last: 0,
            serving: Outgoing::new(no),
            notified: HashMap::new(),
            over: Vec::new(),
            ready: None,
            guest: None,
        }
    }

    /// The dialling end; `ready` fires when the other node has said welcome.
    pub(crate) fn dialled(
        mesh: Arc<MeshContext>,
        handle: LinkHandle,
        peer: NodeId,
        ready: oneshot::Sender<NodeId>,
    ) -> Self {
        Link { peer: Some(peer), ready: Some(ready), ..Link::new(mesh, handle) }
    }

    fn say(frame: MeshFrame, cx: &mut Cx) {
        cx.send(Frame::Extension(frame.encode()));
    }

    fn forward(&mut self, request: Box<Request>, cx: &mut Cx) {
        let remaining = request.remaining(cx.now());
        if remaining.is_zero() {
            request.fail(Failure::not_run(Code::TIMEOUT, "the deadline passed before forwarding"));
            return;
        }
        let Some(destination) = request.to.destination().filter(|to| !self.is_over(*to)) else {
            // It has waited in this mailbox while the receiver's session ended.
            return resolve::return_undelivered(&self.mesh.router, [Delivery::Request(request)]);
        };
        self.last += 1;
        let id = self.last;
        self.by_key.insert(request.key(), id);
        Self::say(
            MeshFrame::Request {
                id,
                kind: request.kind,
                destination,
                caller: request.caller,
                remaining,
                name: request.name.clone(),
                custom: request.custom.clone(),
                body: request.body.clone(),
            },
            cx,
        );
        self.forwarded.insert(id, request);
    }

    /// Whether the tables know that the session, or its node, is over.
    fn is_over(&self, destination: Destination) -> bool {
        let is_down = |node, epoch| matches!(self.mesh.peers.reach(node, epoch), Reachability::Down);
        match (destination, self.peer) {
            (Destination::Edge(edge, incarnation), _) => match self.mesh.edges.get(edge) {
                Some(EdgeLocation::Remote(home)) => {
                    home.incarnation != incarnation || is_down(home.node, home.epoch)
                }
                _ => true,
            },
            (Destination::Service(_, _, epoch), Some(peer)) => is_down(peer, epoch),
            (Destination::Service(..), None) => false,
        }
    }

    fn take(&mut self, id: u64) -> Option<Box<Request>> {
        let request = self.forwarded.remove(&id)?;
        self.by_key.remove(&request.key());
        Some(request)
    }

    fn forwarded_ended(&mut self, id: u64, answer: Answer) {
        let Some(request) = self.take(id) else { return };
        match answer {
            Answer::Failed(failure) if failure.code == Code::MOVED => {
                resolve::redirect(&self.mesh.router, request, failure);
            }
            answer => request.origin.answer(request.id, answer),
        }
    }

    fn serve(&mut self, request: Box<Request>, destination: Destination, cx: &mut Cx) {
        let id = request.id;
        let times = (cx.now(), request.deadline);
        if !self.serving.insert(id, request.kind, times, request.body.len()) {
            warn!(id, "a node has used a request number twice");
            return;
        }
        if let Some(at) = self.serving.next_deadline() {
            cx.wake_at(at);
        }
        let router = &self.mesh.router;
        let Some(request) = router.queue_behind(request) else { return };
        let outcome = match find_local(router, destination) {
            // The sender has applied more of the log than this node.
            None if let Some(revision) = self.ahead(destination) => {
                resolve::resolve_again(router, request, Freshness::AtLeast(revision));
                return;
            }
            None => Err(resolve::moved(router, destination)),
            Some(receiver) => match receiver.try_deliver(request) {
                Ok(()) => Ok(receiver),
                Err(DeliveryError::Busy(_)) => {
                    Err(Failure::not_run(Code::BUSY, "the receiver's queue is full"))
                }
                Err(DeliveryError::Gone(_)) => Err(resolve::moved(router, destination)),
            },
        };
        match outcome {
            Ok(receiver) => self.serving.sent_to(id, receiver),
            Err(failure) => self.served_ended(id, Answer::Failed(failure), cx),
        }
    }

    /// The revision of a session that this node has not applied yet.
    fn ahead(&self, destination: Destination) -> Option<Revision> {
        let Destination::Edge(_, incarnation) = destination else { return None };
        Some(incarnation.0.revision).filter(|revision| *revision > self.mesh.consensus.applied())
    }

    fn served_ended(&mut self, id: u64, answer: Answer, cx: &mut Cx) {
        let answer = match (self.serving.complete(id), answer) {
            // Cancelled because its time is over, should whoever asked not have noticed yet.
            (None, Answer::Failed(failure)) if failure.code == Code::CANCELLED => {
                let text = "no answer within the deadline".to_owned();
                Answer::Failed(Failure { code: Code::TIMEOUT, text, ..failure })
            }
            (_, answer) => answer,
        };
        Self::say(MeshFrame::Answer(id, answer), cx);
    }

    /// One line for a stranger, or a node that broke the rules.
    fn log_end(&self, reason: &CloseReason) {
        debug!(peer = ?self.peer, %reason, "mesh link closed");
        let broke_rules = matches!(
            reason.code,
            Code::PROTOCOL
                | Code::TOO_LARGE
                | Code::VERSION
                | Code::LIMIT
                | Code::HANDSHAKE_TIMEOUT
                | Code::WRONG_CLUSTER
        );
        if reason.by == By::Us
            && broke_rules
            && let Some(more) = self.mesh.telemetry.disconnected(Port::Mesh, reason.code)
            // A node that is refused tries again all the time: it has a line of its own.
            && reason.code != Code::WRONG_CLUSTER
        {
            let remote = self.guest.as_ref().map(|(remote, _)| remote);
            warn!(port = Port::Mesh.name(), ?remote, peer = ?self.peer, %reason, more, "cut off");
        }
    }

    fn fail_forwarded(&mut self, text: &str) {
        self.by_key.clear();
        for (_, request) in self.forwarded.drain() {
            request.fail(Failure::may_have_run(Code::GONE, text));
        }
    }

    /// A session at the other end is over. Its node ends what it had, in the truest words; if that is silent,
    /// this one does.
    fn session_over(&mut self, destination: Destination, code: Code, cx: &mut Cx) {
        if self.forwarded.values().any(|request| request.to.destination() == Some(destination)) {
            let at = cx.now() + TAKEOVER_WAIT;
            self.over.push((at, destination, code));
            cx.wake_at(at);
        }
    }

    fn end_over(&mut self, now: Instant, cx: &mut Cx) {
        for (_, destination, code) in self.over.extract_if(.., |(at, ..)| *at <= now) {
            let ids = self
                .forwarded
                .iter()
                .filter(|(_, request)| request.to.destination() == Some(destination))
                .map(|(id, _)| *id);
            for id in ids.collect::<Vec<_>>() {
                if let Some(request) = self.forwarded.remove(&id) {
                    self.by_key.remove(&request.key());
                    let text = "the receiver's session is over, and its node says nothing";
                    request.fail(Failure::may_have_run(code, text));
                }
            }
        }
        if let Some((at, ..)) = self.over.first() {
            cx.wake_at(*at);
        }
    }

    fn on_delivery(&mut self, delivery: Delivery, cx: &mut Cx) {
        match delivery {
            Delivery::Request(request) => self.forward(request, cx),
            Delivery::Answer(id, answer) => self.served_ended(id, answer, cx),
            Delivery::Cancel(key) => {
                if let Some(&id) = self.by_key.get(&key) {
                    // The answer comes when the other end has ended it.
                    Self::say(MeshFrame::Cancel(id), cx);
                }
            }
            Delivery::Open(reply) => cx.open_stream(move |opened| {
                let _ = reply.send(opened);
            }),
            Delivery::Routed(id, to) => self.serving.sent_to(id, to),
        }
    }

    fn on_command(&mut self, command: LinkCommand, cx: &mut Cx) {
        match command {
            LinkCommand::PeerDown => self.fail_forwarded("the receiver's node is down or out of reach"),
            LinkCommand::Takeover { edge, incarnation, moving, confirmed } => {
                self.last += 1;
                self.notified.retain(|_, waiting| !waiting.is_closed());
                self.notified.insert(self.last, confirmed);
                Self::say(MeshFrame::Takeover { id: self.last, edge, incarnation, moving }, cx);
            }
            LinkCommand::SessionOver(destination, code) => self.session_over(destination, code, cx),
            LinkCommand::Ping => Self::say(MeshFrame::Ping(self.mesh.consensus.is_ready()), cx),
            LinkCommand::Close(goaway) => cx.close(goaway),
        }
    }

    fn on_mesh(&mut self, frame: MeshFrame, cx: &mut Cx) {
        match frame {
            MeshFrame::Request { id, kind, destination, caller, remaining, name, custom, body } => {
                let request = Request {
                    kind,
                    origin: Origin::Link(self.no, self.handle.clone()),
                    id,
                    to: Address::Resolved(destination),
                    caller,
                    key: caller,
                    deadline: codec::deadline(cx.now(), remaining),
                    name,
                    custom,
                    body,
                    patient: false,
                    tried: Some(destination),
                };
                self.serve(Box::new(request), destination, cx);
            }
            MeshFrame::Answer(id, answer) => self.forwarded_ended(id, answer),
            MeshFrame::Cancel(id) => {
                self.serving.cancel(id);
            }
            MeshFrame::Takeover { id, edge, incarnation, moving } => {
                self.mesh.presence.taken_over(edge, incarnation, moving);
                Self::say(MeshFrame::Told(id), cx);
            }
            MeshFrame::Told(id) => {
                if let Some(told) = self.notified.remove(&id) {
                    let _ = told.send(());
                }
            }
            MeshFrame::Ping(quorum) => {
                if let Some(peer) = self.peer {
                    self.mesh.peers.heard(peer, cx.now());
                    self.mesh.peers.set_quorum(peer, quorum);
                }
                Self::say(MeshFrame::Pong(self.mesh.consensus.is_ready()), cx);
            }
            MeshFrame::Pong(quorum) => {
                if let Some(peer) = self.peer {
                    self.mesh.peers.answered(peer, cx.now());
                    self.mesh.peers.set_quorum(peer, quorum);
                }
            }
        }
    }

    fn on_hello(&mut self, hello: Hello, cx: &mut Cx) {
        let checked = handshake::check(&self.mesh, &hello);
        match checked.map(|peer| (peer, handshake::welcome(&self.mesh))) {
            Ok((peer, Some(welcome))) => {
                self.peer = Some(peer);
                self.open = true;
                if let Some((_, place)) = &mut self.guest {
                    place.welcomed();
                }
                cx.welcome(welcome);
            }
            Ok((_, None)) => {
                cx.close(GoAway::new(Code::WRONG_CLUSTER, "this node belongs to no cluster yet"))
            }
            Err(goaway) => {
                if self.mesh.peers.may_log_refusal(cx.now()) {
                    warn!(name = %hello.name, code = %goaway.code, text = %goaway.text, "mesh peer refused");
                }
                cx.close(goaway);
            }
        }
    }

    fn on_welcome(&mut self, welcome: Welcome, cx: &mut Cx) {
        match (handshake::check_welcome(&self.mesh, &welcome, self.peer), self.peer) {
            (Ok(()), Some(peer)) => {
                self.open = true;
                self.mesh.peers.answered(peer, cx.now());
                if let Some(ready) = self.ready.take() {
                    let _ = ready.send(peer);
                }
            }
            (Err(goaway), _) => cx.close(goaway),
            (Ok(()), None) => cx.close(GoAway::new(Code::PROTOCOL, "no peer")),
        }
    }

    fn on_frame(&mut self, frame: Frame, cx: &mut Cx) {
        let name = frame.name();
        match frame {
            Frame::Extension(extension) => match MeshFrame::decode(extension) {
                Some(frame) => self.on_mesh(frame, cx),
                None => cx.close(GoAway::new(Code::PROTOCOL, "an unknown mesh frame")),
            },
            _ => cx.close(GoAway::new(Code::PROTOCOL, format!("{name} is no mesh frame"))),
        }
    }
}

impl Handler for Link {
    type Protocol = Native;
    type Mail = LinkMessage;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx) {
        match event {
            PeerEvent::Hello(hello) => self.on_hello(hello, cx),
            PeerEvent::Welcome(welcome) => self.on_welcome(welcome, cx),
            PeerEvent::Frame(frame) => self.on_frame(frame, cx),
            PeerEvent::GoAway(goaway) => {
                debug!(peer = ?self.peer, code = %goaway.code, text = %goaway.text, "mesh peer leaves");
            }
            PeerEvent::Stream(stream) if self.open => {
                let (router, methods) = (self.mesh.router.clone(), self.mesh.edge_methods.clone());
                tasks::spawn(tasks::Kind::Stream, streams::serve_mesh(router, methods, stream));
            }
            PeerEvent::Stream(_) | PeerEvent::Silence(_) => {}
        }
    }

    fn on_mail(&mut self, message: LinkMessage, cx: &mut Cx) {
        match message {
            LinkMessage::Delivery(delivery) => self.on_delivery(delivery, cx),
            LinkMessage::Command(command) => self.on_command(command, cx),
        }
    }

    fn on_timeout(&mut self, now: Instant, cx: &mut Cx) {
        self.end_over(now, cx);
        // The other end keeps the deadlines of those who asked; it is answered when the receiver is rid of it.
        self.serving.expired(now);
        if let Some(at) = self.serving.next_deadline() {
            cx.wake_at(at);
        }
    }

    fn on_closing(&mut self, unread: Vec<LinkMessage>) {
        self.serving.cancel_all();
        self.fail_forwarded("the way to the receiver's node broke before it answered");
        let unread = unread.into_iter().filter_map(Message::into_delivery);
        resolve::return_undelivered(&self.mesh.router, unread);
    }

    fn on_close(self, reason: CloseReason) {
        self.log_end(&reason);
        self.mesh.telemetry.metrics.closed(&reason);
    }
}
