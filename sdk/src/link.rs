//! One connection to the cluster: what is in flight on it, in its own task.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{Cx, Handler, Mailbox, Native, PeerEvent, RecordStream, Stream as RawStream};
use limes_wire::frame::{
    Ack, Call as CallFrame, CallError as ErrorFrame, Execution, Frame, GoAway, Message as MessageFrame,
    Names, Reply, Welcome,
};
use limes_wire::{By, CloseReason, Code, Str, limits};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{Instrument, debug, debug_span, warn};

use crate::call::Call;
use crate::client::Client;
use crate::error::CallError;
use crate::message::Message;
use crate::stream::{Incoming, Stream};

/// The mailbox of a connection.
pub(crate) type Outbox = Mailbox<Mail>;
/// Where the end of a request goes.
pub(crate) type Tell = oneshot::Sender<Result<Bytes, CallError>>;

/// Handlers that may run at once for one connection.
const HANDLERS_MAX: usize = 10_000;
/// How often a connection that is to finish looks whether it has.
const FINISH_LOOK: Duration = Duration::from_millis(50);
/// How long the opener of a stream may take to say what it wants.
const OPEN_TIME: Duration = Duration::from_secs(10);

/// A call or a message to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) is_message: bool,
    pub(crate) peer: u64,
    pub(crate) name: Str,
    pub(crate) body: Bytes,
    pub(crate) deadline: Instant,
    pub(crate) tell: Tell,
}

/// Which change of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    Register,
    Withdraw,
    Subscribe,
    Unsubscribe,
}

/// What the connection's task is told.
#[derive(Debug)]
pub(crate) enum Mail {
    Send(Request),
    Cancel(u64),
    Answer(u64, Result<Bytes, (Code, Execution, String)>),
    Ack {
        id: u64,
        code: Code,
        text: String,
    },
    Names(Naming, u64, Vec<Str>, Tell),
    Open(oneshot::Sender<Result<RawStream, Code>>),
    /// Close when no call and no handler is in flight, and with `streams` no stream is open; at the
    /// instant given in any case.
    Finish {
        until: Instant,
        streams: bool,
    },
    Close,
}

/// How a connection came to its end, or to its beginning.
#[derive(Debug)]
pub(crate) enum News {
    /// It is open.
    Open(Box<Welcome>),
    /// The gateway wants this client to go elsewhere.
    Leave(GoAway),
    /// It is over.
    Closed(CloseReason),
}

/// The handler of one connection.
pub(crate) struct Link {
    client: Arc<Client>,
    outbox: Outbox,
    news: tokio::sync::mpsc::UnboundedSender<News>,
    waiting: HashMap<u64, Tell>,
    running: HashMap<u64, AbortHandle>,
    /// Messages that the user has not acknowledged yet.
    held: HashSet<u64>,
    /// Until when what is in flight may finish, and whether streams count.
    finishing: Option<(Instant, bool)>,
    /// Largest body that the gateway takes.
    max_body: usize,
}

impl Link {
    pub(crate) fn new(
        client: Arc<Client>,
        outbox: Outbox,
        news: tokio::sync::mpsc::UnboundedSender<News>,
    ) -> Self {
        Link {
            client,
            outbox,
            news,
            waiting: HashMap::new(),
            running: HashMap::new(),
            held: HashSet::new(),
            finishing: None,
            max_body: limits::FRAME_BODY_MAX,
        }
    }

    /// Closes a connection that is no longer in use once nothing is in flight on it.
    fn close_if_finished(&mut self, cx: &mut Cx<'_>) {
        let Some((until, streams)) = self.finishing else { return };
        let calls = self.waiting.is_empty() && self.running.is_empty();
        if (calls && !(streams && cx.streams() > 0)) || cx.now() >= until {
            self.leave(cx);
        } else {
            cx.wake_at(until.min(cx.now() + FINISH_LOOK));
        }
    }

    /// Says good-bye; OK is said only if all that was read is answered (PROTOCOL 3.6).
    fn leave(&mut self, cx: &mut Cx<'_>) {
        let owes = !self.running.is_empty() || !self.held.is_empty();
        cx.close(GoAway::new(if owes { Code::CANCELLED } else { Code::OK }, "good-bye"));
    }

    fn finish(&mut self, id: u64, result: Result<Bytes, CallError>) {
        if let Some(tell) = self.waiting.remove(&id) {
            let _ = tell.send(result);
        }
    }

    fn send(&mut self, request: Request, cx: &mut Cx<'_>) {
        let Request { id, is_message, peer, name, body, deadline, tell } = request;
        let remaining = deadline.saturating_duration_since(cx.now());
        if remaining.is_zero() {
            let _ = tell.send(Err(CallError::timeout(Execution::NotStarted)));
            return;
        }
        self.waiting.insert(id, tell);
        let deadline = remaining;
        cx.send(if is_message {
            Frame::Message(MessageFrame { id, deadline, peer, topic: name, body })
        } else {
            Frame::Call(CallFrame { id, deadline, peer, method: name, body })
        });
    }

    /// Runs the handler of a call in a task of its own.
    fn serve(&mut self, call: CallFrame, cx: &mut Cx<'_>) {
        let CallFrame { id, deadline, peer, method, body } = call;
        let refuse =
            |code, text: String| Frame::Error(ErrorFrame { id, code, ran: Execution::NotStarted, text });
        let Some(handler) = self.client.methods.get(&method) else {
            cx.send(refuse(Code::NO_METHOD, format!("nobody here answers {:?}", &*method)));
            return;
        };
        if self.running.len() >= HANDLERS_MAX {
            cx.send(refuse(Code::BUSY, "too many calls are being answered here".to_owned()));
            return;
        }
        let outbox = self.outbox.clone();
        let span = debug_span!("limes.handler", method = &*method, peer);
        let work = handler(Call { peer, method: method.to_string(), body, deadline });
        let task = tokio::spawn(async move {
            let mut handler = AbortOnDrop(tokio::spawn(work.instrument(span)));
            let answer = match (&mut handler.0).await {
                Ok(Ok(body)) => Ok(body),
                Ok(Err(failed)) => Err((Code::APPLICATION, Execution::Completed, failed.0)),
                Err(_) => Err((Code::APPLICATION, Execution::Completed, "the handler panicked".to_owned())),
            };
            outbox.push_always(Mail::Answer(id, answer));
        });
        self.running.insert(id, task.abort_handle());
    }

    fn receive(&mut self, message: MessageFrame, cx: &mut Cx<'_>) {
        let MessageFrame { id, peer, topic, body, .. } = message;
        let outbox = self.outbox.clone();
        let topic = topic.to_string();
        let message = Message { peer, topic, body, id, outbox, answered: false };
        self.held.insert(id);
        if let Err(full) = self.client.messages.0.try_send(message) {
            self.held.remove(&id);
            full.into_inner().answered = true;
            let text = "the receiver does not keep up".to_owned();
            cx.send(Frame::Error(ErrorFrame { id, code: Code::BUSY, ran: Execution::NotStarted, text }));
        }
    }
}

impl Link {
    fn on_frame(&mut self, frame: Frame, cx: &mut Cx<'_>) {
        match frame {
            Frame::Reply(Reply { id, body }) => self.finish(id, Ok(body)),
            Frame::Error(error) => self.finish(error.id, Err(error.into())),
            Frame::Ack(Ack { id, code: Code::OK, .. }) => self.finish(id, Ok(Bytes::new())),
            Frame::Ack(Ack { id, code, text }) => {
                self.finish(id, Err(CallError::coded(code, Execution::Completed, text)));
            }
            Frame::Done(done) if done.code == Code::OK => self.finish(done.id, Ok(Bytes::new())),
            Frame::Done(done) => {
                self.finish(done.id, Err(CallError::coded(done.code, Execution::NotStarted, done.text)))
            }
            Frame::Call(call) => self.serve(call, cx),
            Frame::Message(message) => self.receive(message, cx),
            Frame::Cancel { id } => {
                if let Some(task) = self.running.remove(&id) {
                    task.abort();
                }
            }
            other => debug!(frame = other.name(), "a frame that says nothing to this side"),
        }
    }
}

impl Handler for Link {
    type Protocol = Native;
    type Mail = Mail;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Welcome(welcome) => {
                self.max_body = welcome.max_body as usize;
                let _ = self.news.send(News::Open(Box::new(welcome)));
            }
            PeerEvent::Frame(frame) => self.on_frame(frame, cx),
            PeerEvent::GoAway(goaway) => {
                let _ = self.news.send(News::Leave(goaway));
            }
            PeerEvent::Stream(stream) => {
                tokio::spawn(accept(self.client.clone(), stream));
            }
            PeerEvent::Hello(_) | PeerEvent::Silence(_) => {}
        }
    }

    fn on_mail(&mut self, mail: Mail, cx: &mut Cx<'_>) {
        match mail {
            Mail::Send(request) => self.send(request, cx),
            Mail::Cancel(id) => {
                if self.waiting.remove(&id).is_some() {
                    cx.send(Frame::Cancel { id });
                }
            }
            Mail::Answer(id, answer) => {
                if self.running.remove(&id).is_some() {
                    cx.send(match answer {
                        Ok(body) if body.len() > self.max_body => {
                            // It would cost the connection, and every other call on it (PROTOCOL 9.2).
                            let text = format!(
                                "a reply of {} bytes is over the cluster's limit of {}",
                                body.len(),
                                self.max_body
                            );
                            Frame::Error(ErrorFrame {
                                id,
                                code: Code::TOO_LARGE,
                                ran: Execution::Completed,
                                text,
                            })
                        }
                        Ok(body) => Frame::Reply(Reply { id, body }),
                        Err((code, ran, text)) => Frame::Error(ErrorFrame { id, code, ran, text }),
                    });
                }
            }
            Mail::Ack { id, code, text } => {
                self.held.remove(&id);
                cx.send(Frame::Ack(Ack { id, code, text }));
            }
            Mail::Names(naming, id, names, tell) => {
                self.waiting.insert(id, tell);
                let names = Names { id, names };
                cx.send(match naming {
                    Naming::Register => Frame::Register(names),
                    Naming::Withdraw => Frame::Withdraw(names),
                    Naming::Subscribe => Frame::Subscribe(names),
                    Naming::Unsubscribe => Frame::Unsubscribe(names),
                });
            }
            Mail::Open(opened) => cx.open_stream(move |stream| {
                let _ = opened.send(stream);
            }),
            Mail::Finish { until, streams } => {
                self.finishing = Some((until, streams));
                self.close_if_finished(cx);
            }
            Mail::Close => self.leave(cx),
        }
    }

    fn on_timeout(&mut self, _: Instant, cx: &mut Cx<'_>) {
        self.close_if_finished(cx);
    }

    fn on_closing(&mut self, unread: Vec<Mail>) {
        for mail in unread {
            if let Mail::Send(Request { tell, .. }) | Mail::Names(_, _, _, tell) = mail {
                let _ = tell.send(Err(CallError::not_sent()));
            }
        }
    }

    fn on_close(mut self, reason: CloseReason) {
        for (_, task) in self.running.drain() {
            task.abort();
        }
        // PROTOCOL 3.6: a gateway that ends with OK has answered all that it has read.
        let unread = reason.by == By::Peer && reason.code == Code::OK;
        for (_, tell) in self.waiting.drain() {
            let _ = tell.send(Err(if unread { CallError::not_sent() } else { CallError::cut() }));
        }
        match (reason.by, reason.code) {
            (By::Us, Code::OK) => {}
            (By::Us, _) => warn!(%reason, "connection closed by this side"),
            _ => debug!(%reason, "connection ended"),
        }
        let _ = self.news.send(News::Closed(reason));
    }
}

/// A handler's task, apart so that a panic is an answer; ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<Result<Bytes, crate::call::Failed>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes a stream that the other side has opened.
async fn accept(client: Arc<Client>, raw: RawStream) {
    let mut stream = RecordStream::new(raw);
    let Ok(Ok(open)) = timeout(OPEN_TIME, stream.read_open()).await else { return };
    let Ok(place) = client.streams.0.clone().try_reserve_owned() else {
        return stream.reset(Code::BUSY, "nobody here accepts the stream").await;
    };
    if stream.write_accept(&[]).await.is_ok() {
        let name = open.name.to_string();
        place.send(Incoming { peer: open.peer, name, meta: open.meta, stream: Stream(stream) });
    }
}
