//! One connection to the cluster: the requests and handlers in flight on it, owned by the connection's task.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use limes_wire::driver::{Cx, Handler, Native, PeerEvent, RecordStream, Stream as RawStream};
use limes_wire::frame::{
    Ack, Call as CallFrame, CallError as ErrorFrame, Done, Execution, Frame, GoAway, Message as MessageFrame,
    Names, Reply, Welcome,
};
use limes_wire::{By, CloseReason, Code, limits};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, debug, debug_span, warn};

use crate::call::{Call, Failed};
use crate::client::Client;
use crate::command::{LinkCommand, LinkHandle, NameChange, PendingRequest, RequestKind, ResultSender};
use crate::error::CallError;
use crate::message::Message;
use crate::stream::{Incoming, Stream};

/// Handlers that may run at once for one connection.
const HANDLERS_MAX: usize = 10_000;
/// Pause between polls of the open streams of a connection that finishes: the driver does not report their ends.
const STREAMS_POLL: Duration = Duration::from_millis(50);
/// Time limit for the peer to introduce a stream that it has opened.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// What a connection reports to the task that keeps the client connected.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The gateway has welcomed the client.
    Opened(Box<Welcome>),
    /// The gateway refuses the client, or wants it to leave.
    GoAway(GoAway),
    /// The connection is over.
    Closed(CloseReason),
}

/// Until when a connection may finish what is in flight.
#[derive(Debug, Clone, Copy)]
struct Finishing {
    until: Instant,
    /// Whether open streams count as in flight.
    streams: bool,
}

/// The handler of one connection.
pub(crate) struct Link {
    client: Arc<Client>,
    handle: LinkHandle,
    events: UnboundedSender<LinkEvent>,
    /// Requests without a result, by id.
    pending: HashMap<u64, ResultSender>,
    /// Handlers that run, by the id of their call; dropping one aborts it.
    running: HashMap<u64, AbortOnDropHandle<()>>,
    /// Ids of messages that the application has not acknowledged yet.
    unacknowledged: HashSet<u64>,
    /// Streams of the peer that are being accepted.
    accepting: JoinSet<()>,
    finishing: Option<Finishing>,
    /// Largest body that the gateway takes, in bytes.
    max_body: usize,
    /// Cancels the connection's token when this is dropped.
    _ended: DropGuard,
}

impl Link {
    pub(crate) fn new(
        client: Arc<Client>,
        handle: LinkHandle,
        events: UnboundedSender<LinkEvent>,
        ended: DropGuard,
    ) -> Self {
        Link {
            client,
            handle,
            events,
            pending: HashMap::new(),
            running: HashMap::new(),
            unacknowledged: HashSet::new(),
            accepting: JoinSet::new(),
            finishing: None,
            max_body: limits::FRAME_BODY_MAX,
            _ended: ended,
        }
    }

    /// Closes a connection that finishes once nothing is in flight on it, or its time is up.
    fn close_if_finished(&mut self, cx: &mut Cx<'_>) {
        let Some(Finishing { until, streams }) = self.finishing else { return };
        let calls = !self.pending.is_empty() || !self.running.is_empty();
        let streams = streams && cx.streams() > 0;
        if !(calls || streams) || cx.now() >= until {
            self.leave(cx);
        } else {
            cx.wake_at(if streams { until.min(cx.now() + STREAMS_POLL) } else { until });
        }
    }

    /// Closes the connection with a go-away. The code OK promises that every request read was answered (PROTOCOL 3.6).
    fn leave(&mut self, cx: &mut Cx<'_>) {
        let is_complete = self.running.is_empty() && self.unacknowledged.is_empty();
        cx.close(GoAway::new(if is_complete { Code::OK } else { Code::CANCELLED }, "good-bye"));
    }

    fn resolve(&mut self, id: u64, result: Result<Bytes, CallError>) {
        if let Some(sender) = self.pending.remove(&id) {
            let _ = sender.send(result);
        }
    }

    fn send(&mut self, request: PendingRequest, cx: &mut Cx<'_>) {
        let PendingRequest { id, kind, peer, name, body, deadline, result } = request;
        let deadline = deadline.saturating_duration_since(cx.now());
        if deadline.is_zero() {
            let _ = result.send(Err(CallError::timeout(Execution::NotStarted)));
            return;
        }
        self.pending.insert(id, result);
        // On the wire a peer of 0 leaves the choice of a service to the gateway (PROTOCOL 4.1).
        let peer = peer.unwrap_or(0);
        cx.send(match kind {
            RequestKind::Message => Frame::Message(MessageFrame { id, deadline, peer, topic: name, body }),
            RequestKind::Call => Frame::Call(CallFrame { id, deadline, peer, method: name, body }),
        });
    }

    /// Runs the handler of a call in a task of its own; a panic becomes an answer.
    fn serve(&mut self, call: CallFrame, cx: &mut Cx<'_>) {
        let CallFrame { id, deadline, peer, method, body } = call;
        let refuse =
            |code, text: String| Frame::Error(ErrorFrame { id, code, ran: Execution::NotStarted, text });
        let Some(handler) = self.client.methods.get(&method) else {
            cx.send(refuse(Code::NO_METHOD, format!("no handler for {:?}", &*method)));
            return;
        };
        if self.running.len() >= HANDLERS_MAX {
            cx.send(refuse(Code::BUSY, "too many handlers are running".to_owned()));
            return;
        }
        let link = self.handle.clone();
        let span = debug_span!("limes.handler", method = &*method, peer);
        let call = Call { peer, method: method.to_string(), body, deadline };
        let work = async move {
            let answer = AssertUnwindSafe(async move { handler(call).await }).catch_unwind().await;
            let result = answer.unwrap_or_else(|_| Err(Failed::new("the handler panicked")));
            link.push_always(LinkCommand::Answer { id, result });
        };
        let task = tokio::spawn(work.instrument(span));
        self.running.insert(id, AbortOnDropHandle::new(task));
    }

    /// Sends the answer of a handler, unless its call was cancelled meanwhile.
    fn answer(&mut self, id: u64, result: Result<Bytes, Failed>, cx: &mut Cx<'_>) {
        if self.running.remove(&id).is_none() {
            return;
        }
        let fail = |code, text| Frame::Error(ErrorFrame { id, code, ran: Execution::Completed, text });
        cx.send(match result {
            Ok(body) if body.len() > self.max_body => {
                // Sending it would end the connection, with every other call on it (PROTOCOL 9.2).
                let (bytes, max) = (body.len(), self.max_body);
                let text = format!("a reply of {bytes} bytes is over the cluster's limit of {max}");
                fail(Code::TOO_LARGE, text)
            }
            Ok(body) => Frame::Reply(Reply { id, body }),
            Err(failed) => fail(Code::APPLICATION, failed.0),
        });
    }

    /// Queues a message for the application, or refuses it if the queue is full.
    fn receive(&mut self, message: MessageFrame, cx: &mut Cx<'_>) {
        let MessageFrame { id, peer, topic, body, .. } = message;
        let (topic, link) = (topic.to_string(), self.handle.clone());
        let message = Message { peer, topic, body, id, link, answered: false };
        self.unacknowledged.insert(id);
        if let Err(full) = self.client.messages.sender.try_send(message) {
            self.unacknowledged.remove(&id);
            full.into_inner().answered = true;
            let text = "the receiver does not keep up".to_owned();
            cx.send(Frame::Error(ErrorFrame { id, code: Code::BUSY, ran: Execution::NotStarted, text }));
        }
    }

    fn change_names(&mut self, id: u64, change: NameChange, names: Names, cx: &mut Cx<'_>) {
        debug_assert_eq!(id, names.id);
        cx.send(match change {
            NameChange::Register => Frame::Register(names),
            NameChange::Withdraw => Frame::Withdraw(names),
            NameChange::Subscribe => Frame::Subscribe(names),
            NameChange::Unsubscribe => Frame::Unsubscribe(names),
        });
    }
}

impl Link {
    fn on_frame(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        match frame {
            Frame::Reply(Reply { id, body }) => self.resolve(id, Ok(body)),
            Frame::Error(error) => self.resolve(error.id, Err(error.into())),
            Frame::Ack(Ack { id, code: Code::OK, .. }) | Frame::Done(Done { id, code: Code::OK, .. }) => {
                self.resolve(id, Ok(Bytes::new()));
            }
            Frame::Ack(Ack { id, code, text }) => {
                self.resolve(id, Err(CallError::coded(code, Execution::Completed, text)));
            }
            Frame::Done(Done { id, code, text }) => {
                self.resolve(id, Err(CallError::coded(code, Execution::NotStarted, text)));
            }
            Frame::Call(call) => self.serve(call, cx),
            Frame::Message(message) => self.receive(message, cx),
            Frame::Cancel { id } => drop(self.running.remove(&id)),
            other => debug!(frame = other.name(), "ignored a frame that has no meaning for a client"),
        }
        self.close_if_finished(cx);
    }
}

impl Handler for Link {
    type Protocol = Native;
    type Message = LinkCommand;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Welcome(welcome) => {
                self.max_body = welcome.max_body as usize;
                let _ = self.events.send(LinkEvent::Opened(welcome));
            }
            PeerEvent::Frame(frame) => self.on_frame(frame, cx),
            PeerEvent::GoAway(goaway) => {
                let _ = self.events.send(LinkEvent::GoAway(goaway));
            }
            PeerEvent::Stream(stream) => {
                while self.accepting.try_join_next().is_some() {}
                self.accepting.spawn(accept(self.client.clone(), stream));
            }
            PeerEvent::Hello(_) | PeerEvent::Silence(_) => {}
        }
    }

    fn on_message(&mut self, command: LinkCommand, cx: &mut Cx<'_>) {
        match command {
            LinkCommand::Send(request) => self.send(request, cx),
            LinkCommand::Cancel(id) => {
                if self.pending.remove(&id).is_some() {
                    cx.send(Frame::Cancel { id });
                }
            }
            LinkCommand::Answer { id, result } => self.answer(id, result, cx),
            LinkCommand::Ack { id, code, text } => {
                self.unacknowledged.remove(&id);
                cx.send(Frame::Ack(Ack { id, code, text }));
            }
            LinkCommand::ChangeNames { id, change, names, result } => {
                self.pending.insert(id, result);
                self.change_names(id, change, Names { id, names }, cx);
            }
            LinkCommand::OpenStream(opened) => cx.open_stream(move |stream| {
                let _ = opened.send(stream);
            }),
            LinkCommand::Finish { until, streams } => self.finishing = Some(Finishing { until, streams }),
            LinkCommand::Close => return self.leave(cx),
        }
        self.close_if_finished(cx);
    }

    fn on_timeout(&mut self, _: Instant, cx: &mut Cx<'_>) {
        self.close_if_finished(cx);
    }

    fn on_closing(&mut self, unread: Vec<LinkCommand>) {
        for command in unread {
            if let LinkCommand::Send(PendingRequest { result, .. })
            | LinkCommand::ChangeNames { result, .. } = command
            {
                let _ = result.send(Err(CallError::not_sent()));
            }
        }
    }

    fn on_close(mut self, reason: CloseReason) {
        self.running.clear();
        // A gateway that ends with OK has answered every request that it has read (PROTOCOL 3.6).
        let is_unread = reason.by == By::Peer && reason.code == Code::OK;
        for (_, result) in self.pending.drain() {
            let error = if is_unread { CallError::not_sent() } else { CallError::disconnected() };
            let _ = result.send(Err(error));
        }
        match (reason.by, reason.code) {
            (By::Us, Code::OK) => {}
            (By::Us, _) => warn!(%reason, "connection closed by this side"),
            _ => debug!(%reason, "connection ended"),
        }
        let _ = self.events.send(LinkEvent::Closed(reason));
    }
}

/// Accepts a stream that the peer has opened, if the application's queue has a free slot.
async fn accept(client: Arc<Client>, raw: RawStream) {
    let mut stream = RecordStream::new(raw);
    let Ok(Ok(open)) = timeout(OPEN_TIME, stream.read_open()).await else { return };
    let Ok(slot) = client.streams.sender.clone().try_reserve_owned() else {
        return stream.reset(Code::BUSY, "the application does not accept the stream").await;
    };
    if stream.write_accept(&[]).await.is_ok() {
        let name = open.name.to_string();
        slot.send(Incoming { peer: open.peer, name, meta: open.meta, stream: Stream(stream) });
    }
}
