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

use super::codec::MeshFrame;
use super::context::MeshContext;
use super::error::HandshakeError;
use super::forwarded::ForwardedRequests;
use super::handshake;
use crate::presence::admission::TAKEOVER_WAIT;
use crate::router::edge_routes::EdgeLocation;
use crate::router::message::{
    Address, Answer, Delivery, DeliveryError, Destination, Failure, Freshness, LinkCommand, LinkHandle,
    LinkMessage, Message, Origin, Request,
};
use crate::router::peers::Reachability;
use crate::router::resolve::{self, find_local};
use crate::router::streams;
use crate::session::outgoing::Outgoing;
use crate::tasks;
use crate::telemetry::port::Port;
use crate::transport::permit::Permit;

/// The handler of a connection to another node.
pub(crate) struct Link {
    mesh: Arc<MeshContext>,
    no: u64,
    handle: LinkHandle,
    /// The other node, once known.
    peer: Option<NodeId>,
    open: bool,
    /// Requests of this node for sessions of the other node.
    forwarded: ForwardedRequests,
    /// Requests of the other node for sessions here.
    serving: Outgoing,
    /// Takeover notifications that the other node has not confirmed yet.
    notified: HashMap<u64, oneshot::Sender<()>>,
    /// Fires when the other node has sent its welcome; of the dialling end.
    ready: Option<oneshot::Sender<NodeId>>,
    /// The address and the permit of the other node; of the accepting end.
    accepted: Option<(SocketAddr, Permit)>,
}

impl Link {
    /// The accepting end.
    pub(crate) fn accepted(
        mesh: Arc<MeshContext>,
        handle: LinkHandle,
        remote: SocketAddr,
        permit: Permit,
    ) -> Self {
        Link { accepted: Some((remote, permit)), ..Link::new(mesh, handle) }
    }

    fn new(mesh: Arc<MeshContext>, handle: LinkHandle) -> Self {
        let no = mesh.sessions.issue();
        Link {
            mesh,
            no,
            handle,
            peer: None,
            open: false,
            forwarded: ForwardedRequests::default(),
            serving: Outgoing::new(no),
            notified: HashMap::new(),
            ready: None,
            accepted: None,
        }
    }

    /// The dialling end; `ready` fires when the other node has sent its welcome.
    pub(crate) fn dialled(
        mesh: Arc<MeshContext>,
        handle: LinkHandle,
        peer: NodeId,
        ready: oneshot::Sender<NodeId>,
    ) -> Self {
        Link { peer: Some(peer), ready: Some(ready), ..Link::new(mesh, handle) }
    }

    fn send(frame: MeshFrame, cx: &mut Cx) {
        cx.send(Frame::Extension(frame.encode()));
    }

    /// Sends a request of this node to the other node.
    fn forward(&mut self, request: Box<Request>, cx: &mut Cx) {
        let remaining = request.remaining(cx.now());
        if remaining.is_zero() {
            request.fail(Failure::not_run(Code::TIMEOUT, "the deadline passed before forwarding"));
            return;
        }
        let Some(destination) = request.to.destination().filter(|to| !self.is_over(*to)) else {
            // The receiver's session has ended while the request waited in this mailbox.
            return resolve::return_undelivered(&self.mesh.router, [Delivery::Request(request)]);
        };
        let id = self.forwarded.next_id();
        Self::send(
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

    /// Whether the session, or its node, is over by the tables.
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

    /// The other node has answered a request of this node.
    fn forwarded_ended(&mut self, id: u64, answer: Answer) {
        let Some(request) = self.forwarded.take(id) else { return };
        match answer {
            Answer::Failed(failure) if failure.code == Code::MOVED => {
                resolve::redirect(&self.mesh.router, request, failure);
            }
            answer => request.origin.answer(request.id, answer),
        }
    }

    /// Delivers a request of the other node to a session here.
    fn serve(&mut self, request: Box<Request>, destination: Destination, cx: &mut Cx) {
        let id = request.id;
        let times = (cx.now(), request.deadline);
        if !self.serving.insert(id, request.kind, times, request.body.len()) {
            warn!(id, "another node has used a request number twice");
            return;
        }
        if let Some(at) = self.serving.next_deadline() {
            cx.wake_at(at);
        }
        let router = &self.mesh.router;
        let Some(request) = router.queue_behind(request) else { return };
        let outcome = match find_local(router, destination) {
            // The other node has applied more of the log than this one.
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

    /// Answers a request of the other node.
    fn served_ended(&mut self, id: u64, answer: Answer, cx: &mut Cx) {
        let answer = match (self.serving.complete(id), answer) {
            // Cancelled here at its deadline, which the caller may not have noticed yet.
            (None, Answer::Failed(failure)) if failure.code == Code::CANCELLED => {
                let text = "no answer within the deadline".to_owned();
                Answer::Failed(Failure { code: Code::TIMEOUT, text, ..failure })
            }
            (_, answer) => answer,
        };
        Self::send(MeshFrame::Answer(id, answer), cx);
    }

    /// Writes a rate-limited line about a peer that broke a rule or crossed a limit.
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
            // A refused node retries all the time; `on_hello` logs it.
            && reason.code != Code::WRONG_CLUSTER
        {
            let remote = self.accepted.as_ref().map(|(remote, _)| remote);
            warn!(port = Port::Mesh.name(), ?remote, peer = ?self.peer, %reason, more, "disconnected");
        }
    }

    /// A session of the other node is over. That node fails the requests of the session with the exact cause. If it does
    /// not in time, this node fails them.
    fn session_over(&mut self, destination: Destination, code: Code, cx: &mut Cx) {
        let at = cx.now() + TAKEOVER_WAIT;
        if self.forwarded.session_over(at, destination, code) {
            cx.wake_at(at);
        }
    }

    fn on_delivery(&mut self, delivery: Delivery, cx: &mut Cx) {
        match delivery {
            Delivery::Request(request) => self.forward(request, cx),
            Delivery::Answer(id, answer) => self.served_ended(id, answer, cx),
            Delivery::Cancel(key) => {
                if let Some(id) = self.forwarded.id_of(key) {
                    // The answer arrives when the other node has ended the request.
                    Self::send(MeshFrame::Cancel(id), cx);
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
            LinkCommand::PeerDown => self.forwarded.fail_all("the receiver's node is down or out of reach"),
            LinkCommand::Takeover { edge, incarnation, moving, confirmed } => {
                let id = self.forwarded.next_id();
                self.notified.retain(|_, waiting| !waiting.is_closed());
                self.notified.insert(id, confirmed);
                Self::send(MeshFrame::Takeover { id, edge, incarnation, moving }, cx);
            }
            LinkCommand::SessionOver(destination, code) => self.session_over(destination, code, cx),
            LinkCommand::Ping => Self::send(MeshFrame::Ping(self.mesh.consensus.is_ready()), cx),
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
                    deadline: cx.now() + remaining,
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
                Self::send(MeshFrame::TakeoverConfirmed(id), cx);
            }
            MeshFrame::TakeoverConfirmed(id) => {
                if let Some(confirmed) = self.notified.remove(&id) {
                    let _ = confirmed.send(());
                }
            }
            MeshFrame::Ping(quorum) => {
                if let Some(peer) = self.peer {
                    self.mesh.peers.heard(peer, cx.now());
                    self.mesh.peers.set_quorum(peer, quorum);
                }
                Self::send(MeshFrame::Pong(self.mesh.consensus.is_ready()), cx);
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
        match checked.and_then(|peer| Ok((peer, handshake::welcome(&self.mesh)?))) {
            Ok((peer, welcome)) => {
                self.peer = Some(peer);
                self.open = true;
                if let Some((_, permit)) = &mut self.accepted {
                    permit.welcomed();
                }
                cx.welcome(welcome);
            }
            Err(error) => self.refuse(&hello, error, cx),
        }
    }

    fn refuse(&self, hello: &Hello, error: HandshakeError, cx: &mut Cx) {
        if self.mesh.peers.may_log_refusal(cx.now()) {
            warn!(name = %hello.name, code = %error.code(), %error, "refused a peer of the mesh port");
        }
        cx.close(error.goaway());
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
            (Err(error), _) => cx.close(error.goaway()),
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
    type Message = LinkMessage;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx) {
        match event {
            PeerEvent::Hello(hello) => self.on_hello(*hello, cx),
            PeerEvent::Welcome(welcome) => self.on_welcome(*welcome, cx),
            PeerEvent::Frame(frame) => self.on_frame(frame, cx),
            PeerEvent::GoAway(goaway) => {
                debug!(peer = ?self.peer, code = %goaway.code, text = %goaway.text, "the other node closes the link");
            }
            PeerEvent::Stream(stream) if self.open => {
                let (router, methods) = (self.mesh.router.clone(), self.mesh.edge_methods.clone());
                tasks::spawn(tasks::Kind::Stream, streams::serve_mesh(router, methods, stream));
            }
            PeerEvent::Stream(_) | PeerEvent::Silence(_) => {}
        }
    }

    fn on_message(&mut self, message: LinkMessage, cx: &mut Cx) {
        match message {
            LinkMessage::Delivery(delivery) => self.on_delivery(delivery, cx),
            LinkMessage::Command(command) => self.on_command(command, cx),
        }
    }

    fn on_timeout(&mut self, now: Instant, cx: &mut Cx) {
        if let Some(at) = self.forwarded.fail_ended(now) {
            cx.wake_at(at);
        }
        // Only cancels at the receivers: the caller's own node answers its caller at the deadline.
        self.serving.expired(now);
        if let Some(at) = self.serving.next_deadline() {
            cx.wake_at(at);
        }
    }

    fn on_closing(&mut self, unread: Vec<LinkMessage>) {
        self.serving.cancel_all();
        self.forwarded.fail_all("the link to the receiver's node broke before it answered");
        let unread = unread.into_iter().filter_map(Message::into_delivery);
        resolve::return_undelivered(&self.mesh.router, unread);
    }

    fn on_close(self, reason: CloseReason) {
        self.log_end(&reason);
        self.mesh.telemetry.metrics.closed(&reason);
    }
}
