//! One connection between two nodes. The node that dialled sends requests; the other delivers them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use limes_routing::{NodeId, Revision};
use limes_wire::driver::{Cx, Handler, Stream};
use limes_wire::frame::{Frame, GoAway, Hello, Welcome};
use limes_wire::{By, CloseReason, Code};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::Reachability;
use super::codec::MeshFrame;
use super::handshake;
use crate::node::Node;
use crate::presence::NOTICE;
use crate::router::edge_routes::EdgeLocation;
use crate::router::message::{
    Answer, DeliveryError, Failure, Key, Mail, Origin, Outbox, Request, Target, try_deliver,
};
use crate::router::resolve::{self, find_here};
use crate::router::streams;
use crate::session::outgoing::Outgoing;
use crate::telemetry::port::Port;
use crate::transport::limiter::Permit;
use crate::{presence, tasks};

/// The handler of a connection to another node.
pub(crate) struct Link {
    node: Arc<Node>,
    no: u64,
    outbox: Outbox,
    /// The other node, once known.
    peer: Option<NodeId>,
    open: bool,
    /// What this node has sent over the link, by its number on the link.
    forwarded: HashMap<u64, Box<Request>>,
    by_key: HashMap<Key, u64>,
    last: u64,
    /// What the other node has sent for sessions here.
    serving: Outgoing,
    told: HashMap<u64, oneshot::Sender<()>>,
    /// SessionRegistry at the other end that are over, and when what they were sent ends.
    over: Vec<(Instant, Target, Code)>,
    ready: Option<oneshot::Sender<NodeId>>,
    /// SessionOwner dialled us, and its place at the gate until it has said which node it is.
    guest: Option<(SocketAddr, Permit)>,
}

impl Link {
    /// The accepting end.
    pub(crate) fn accepted(node: Arc<Node>, outbox: Outbox, remote: SocketAddr, place: Permit) -> Self {
        Link { guest: Some((remote, place)), ..Link::new(node, outbox) }
    }

    fn new(node: Arc<Node>, outbox: Outbox) -> Self {
        let no = node.sessions.issue();
        Link {
            node,
            no,
            outbox,
            peer: None,
            open: false,
            forwarded: HashMap::new(),
            by_key: HashMap::new(),
            last: 0,
            serving: Outgoing::new(no),
            told: HashMap::new(),
            over: Vec::new(),
            ready: None,
            guest: None,
        }
    }

    /// The dialling end; `ready` fires when the other node has said welcome.
    pub(crate) fn dialled(
        node: Arc<Node>,
        outbox: Outbox,
        peer: NodeId,
        ready: oneshot::Sender<NodeId>,
    ) -> Self {
        Link { peer: Some(peer), ready: Some(ready), ..Link::new(node, outbox) }
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
        if self.is_over(request.target) {
            // It has waited here, and what says that its receiver is over has gone before it.
            return resolve::return_undelivered(&self.node, [Mail::Request(request)]);
        }
        self.last += 1;
        let id = self.last;
        self.by_key.insert(request.key(), id);
        Self::say(
            MeshFrame::Request {
                id,
                kind: request.kind,
                target: request.target,
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
    fn is_over(&self, target: Target) -> bool {
        let is_down = |node, epoch| matches!(self.node.peers.reach(node, epoch), Reachability::Down);
        match (target, self.peer) {
            (Target::Edge(edge, incarnation), _) => match self.node.directory.get(edge) {
                Some(EdgeLocation::Remote(home)) => {
                    home.incarnation != incarnation || is_down(home.node, home.epoch)
                }
                _ => true,
            },
            (Target::Service(_, _, epoch), Some(peer)) => is_down(peer, epoch),
            (Target::Service(..), None) => false,
        }
    }

    fn take(&mut self, id: u64) -> Option<Box<Request>> {
        let request = self.forwarded.remove(&id)?;
        self.by_key.remove(&request.key());
        Some(request)
    }

    fn forwarded_ended(&mut self, id: u64, answer: Answer) {
        let Some(mut request) = self.take(id) else { return };
        match answer {
            Answer::Failed(f) if f.code == Code::MOVED && request.tried.is_none() => {
                request.tried = Some(request.target);
                resolve::resolve_again(&self.node, request, Revision(f.revision));
            }
            Answer::Failed(f) if f.code == Code::MOVED => {
                request.fail(Failure::not_run(Code::GONE, "the receiver has moved twice; try again"));
            }
            answer => request.origin.answer(request.id, answer),
        }
    }

    fn serve(&mut self, request: Box<Request>, cx: &mut Cx) {
        let id = request.id;
        if !self.serving.insert(id, request.kind, request.deadline, request.body.len()) {
            warn!(id, "a node used a number twice");
            return;
        }
        if let Some(at) = self.serving.next_deadline() {
            cx.wake_at(at);
        }
        let Some(request) = self.node.lanes.behind(request) else { return };
        let target = request.target;
        let outcome = match find_here(&self.node, request.target) {
            // Whoever sent it has applied more of the log than this node.
            None if let Some(revision) = self.ahead(target) => {
                resolve::resolve_again(&self.node, request, revision);
                return;
            }
            None => Err(resolve::moved(&self.node, target)),
            Some(outbox) => match try_deliver(&outbox, request) {
                Ok(()) => Ok(outbox),
                Err(DeliveryError::Busy(_)) => {
                    Err(Failure::not_run(Code::BUSY, "the receiver's queue is full"))
                }
                Err(DeliveryError::Gone(_)) => Err(resolve::moved(&self.node, target)),
            },
        };
        match outcome {
            Ok(outbox) => self.serving.sent_to(id, outbox),
            Err(failure) => self.served_ended(id, Answer::Failed(failure), cx),
        }
    }

    /// The revision that told of a session of which this node knows nothing yet.
    fn ahead(&self, target: Target) -> Option<Revision> {
        let Target::Edge(_, incarnation) = target else { return None };
        Some(incarnation.0.revision).filter(|revision| *revision > self.node.applied())
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
            && let Some(more) = self.node.cut(Port::Mesh, reason.code)
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
    fn session_over(&mut self, target: Target, code: Code, cx: &mut Cx) {
        if self.forwarded.values().any(|request| request.target == target) {
            let at = cx.now() + NOTICE;
            self.over.push((at, target, code));
            cx.wake_at(at);
        }
    }

    fn end_over(&mut self, now: Instant, cx: &mut Cx) {
        for (_, target, code) in self.over.extract_if(.., |(at, ..)| *at <= now) {
            let ids =
                self.forwarded.iter().filter(|(_, request)| request.target == target).map(|(id, _)| *id);
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

    fn on_mesh(&mut self, frame: MeshFrame, cx: &mut Cx) {
        match frame {
            MeshFrame::Request { id, kind, target, caller, remaining, name, custom, body } => {
                let request = Request {
                    kind,
                    origin: Origin::Link(self.no, self.outbox.clone()),
                    id,
                    target,
                    caller,
                    key: caller,
                    deadline: super::codec::deadline(cx.now(), remaining),
                    name,
                    custom,
                    body,
                    patient: false,
                    tried: Some(target),
                };
                self.serve(Box::new(request), cx);
            }
            MeshFrame::Answer(id, answer) => self.forwarded_ended(id, answer),
            MeshFrame::Cancel(id) => {
                self.serving.cancel(id);
            }
            MeshFrame::Takeover { id, edge, incarnation, moving } => {
                presence::taken_over(&self.node, edge, incarnation, moving);
                Self::say(MeshFrame::Told(id), cx);
            }
            MeshFrame::Told(id) => {
                if let Some(told) = self.told.remove(&id) {
                    let _ = told.send(());
                }
            }
            MeshFrame::Ping(quorum) => {
                if let Some(peer) = self.peer {
                    self.node.peers.heard(peer, cx.now());
                    self.node.peers.feels(peer, quorum);
                }
                Self::say(MeshFrame::Pong(self.node.is_ready()), cx);
            }
            MeshFrame::Pong(quorum) => {
                if let Some(peer) = self.peer {
                    self.node.peers.answered(peer, cx.now());
                    self.node.peers.feels(peer, quorum);
                }
            }
        }
    }
}

impl Handler for Link {
    type Mail = Mail;

    fn on_hello(&mut self, hello: Hello, cx: &mut Cx) {
        match handshake::check(&self.node, &hello) {
            Ok(peer) => {
                self.peer = Some(peer);
                self.open = true;
                if let Some((_, place)) = &mut self.guest {
                    place.welcomed();
                }
                cx.welcome(handshake::answer(&self.node));
            }
            Err(goaway) => {
                if self.node.peers.may_log_refusal(cx.now()) {
                    warn!(name = %hello.name, code = %goaway.code, text = %goaway.text, "mesh peer refused");
                }
                cx.close(goaway);
            }
        }
    }

    fn on_welcome(&mut self, welcome: Welcome, cx: &mut Cx) {
        match (handshake::check_answer(&self.node, &welcome, self.peer), self.peer) {
            (Ok(()), Some(peer)) => {
                self.open = true;
                self.node.peers.answered(peer, cx.now());
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

    fn on_goaway(&mut self, goaway: GoAway, _: &mut Cx) {
        debug!(peer = ?self.peer, code = %goaway.code, text = %goaway.text, "mesh peer leaves");
    }

    fn on_mail(&mut self, mail: Mail, cx: &mut Cx) {
        match mail {
            Mail::Request(request) => self.forward(request, cx),
            Mail::Answer(id, answer) => self.served_ended(id, answer, cx),
            Mail::Cancel(key) => {
                if let Some(&id) = self.by_key.get(&key) {
                    // It is answered when the other end is rid of it.
                    Self::say(MeshFrame::Cancel(id), cx);
                }
            }
            Mail::Open(reply) => cx.open_stream(move |opened| {
                let _ = reply.send(opened);
            }),
            Mail::PeerDown => self.fail_forwarded("the receiver's node is down or out of reach"),
            Mail::Takeover { edge, incarnation, moving, told } => {
                self.last += 1;
                self.told.retain(|_, waiting| !waiting.is_closed());
                self.told.insert(self.last, told);
                Self::say(MeshFrame::Takeover { id: self.last, edge, incarnation, moving }, cx);
            }
            Mail::SessionOver(target, code) => self.session_over(target, code, cx),
            Mail::Ping => Self::say(MeshFrame::Ping(self.node.is_ready()), cx),
            Mail::Close(goaway) => cx.close(goaway),
            Mail::Routed(id, to) => self.serving.sent_to(id, to),
            Mail::Stream(_)
            | Mail::Welcome(_)
            | Mail::Named { .. }
            | Mail::Advise(_)
            | Mail::Isolated(_)
            | Mail::Retire(..) => {}
        }
    }

    fn on_stream(&mut self, stream: Stream, _: &mut Cx) {
        if self.open {
            tasks::spawn(tasks::Kind::Stream, streams::serve_mesh(self.node.clone(), stream));
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

    fn on_closing(&mut self, unread: Vec<Mail>) {
        self.serving.cancel_all();
        self.fail_forwarded("the way to the receiver's node broke before it answered");
        resolve::return_undelivered(&self.node, unread);
    }

    fn on_close(self, reason: CloseReason) {
        self.log_end(&reason);
        self.node.metrics.closed(&reason);
    }
}
