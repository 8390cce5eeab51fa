//! The messages that the tasks of a node exchange.
//!
//! A session and a mesh link are each one task with one bounded mailbox. A call or message travels as one
//! [`Request`] into the mailbox of the task that can deliver it, and exactly one [`Answer`] returns to the
//! mailbox of its [`Origin`]. The tables of what is in flight belong to those tasks, so that sessions share no
//! lock.
//!
//! Every task takes [`Delivery`]; beyond that a session takes [`SessionCommand`], a link [`LinkCommand`],
//! and a geminio session [`StreamCommand`] of its stream tasks.

use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{PushError, Stream};
use limes_wire::frame::GoAway;
use limes_wire::{Code, Str};
use tokio::sync::{mpsc, oneshot};

pub(crate) use super::address::{Address, Destination, Freshness, Key, Kind, Recipient};
pub(crate) use super::command::{LinkCommand, RETIRE, SessionCommand};
use super::geminio_stream::StreamCommand;
pub(crate) use super::outcome::{Answer, Failure};
pub(crate) use super::task_handle::{Message, TaskHandle};

/// Where the answer to [`Delivery::Open`] goes.
pub(crate) type StreamReply = oneshot::Sender<Result<Stream, Code>>;

/// What any receiver takes: requests, their answers, and streams.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// Deliver this and answer its origin.
    Request(Box<Request>),
    /// A request of this task that had to be resolved was delivered there; a cancel goes there.
    Routed(u64, Receiver),
    /// A request of this task has ended.
    Answer(u64, Answer),
    /// The origin no longer waits for its request.
    Cancel(Key),
    /// Open a stream to the peer; the sender writes its first record.
    Open(StreamReply),
}

/// The mailbox item of a native session.
#[derive(Debug)]
pub(crate) enum NativeMessage {
    /// A request, an answer, a stream.
    Delivery(Delivery),
    /// A command.
    Command(SessionCommand),
    /// Advise the peer to connect to another node, and keep serving it. Only the native protocol has a frame for
    /// that.
    Advise(GoAway),
}

/// The mailbox item of a geminio session.
#[derive(Debug)]
pub(crate) enum GeminioMessage {
    /// A request, an answer, a stream.
    Delivery(Delivery),
    /// A command.
    Command(SessionCommand),
    /// A command of a stream's task.
    Stream(Box<StreamCommand>),
}

/// The mailbox item of a mesh link.
#[derive(Debug)]
pub(crate) enum LinkMessage {
    /// A request, an answer, a stream.
    Delivery(Delivery),
    /// A command.
    Command(LinkCommand),
}

/// The mailbox item of a bridge; see [`super::topic_sink`].
#[derive(Debug)]
#[allow(dead_code, reason = "there is no bridge yet")]
pub(crate) enum BridgeMessage {
    /// A message, or the cancellation of one.
    Delivery(Delivery),
    /// Take no more messages and end.
    Close(GoAway),
}

macro_rules! message {
    ($message:ident, $variant:ident($command:ident)) => {
        impl Message for $message {
            type Delivery = Delivery;
            type Command = $command;

            fn delivery(delivery: Delivery) -> Self {
                $message::Delivery(delivery)
            }

            fn command(command: $command) -> Self {
                $message::$variant(command)
            }

            fn into_delivery(self) -> Option<Delivery> {
                if let $message::Delivery(delivery) = self { Some(delivery) } else { None }
            }
        }
    };
}

message!(NativeMessage, Command(SessionCommand));
message!(GeminioMessage, Command(SessionCommand));
message!(LinkMessage, Command(LinkCommand));
message!(BridgeMessage, Close(GoAway));

/// The handle of a mesh link.
pub(crate) type LinkHandle = TaskHandle<LinkMessage>;

/// The handle of a bridge.
pub(crate) type BridgeHandle = TaskHandle<BridgeMessage>;

/// The handle of a session, by its protocol.
#[derive(Debug, Clone)]
pub(crate) enum SessionHandle {
    /// A peer of the native protocol.
    Native(TaskHandle<NativeMessage>),
    /// A peer of the reference's protocol.
    Geminio(TaskHandle<GeminioMessage>),
}

/// Calls the same method on the handle of either protocol.
macro_rules! either {
    ($handle:expr, $inner:ident => $work:expr) => {
        match $handle {
            SessionHandle::Native($inner) => $work,
            SessionHandle::Geminio($inner) => $work,
        }
    };
}

impl SessionHandle {
    /// As [`TaskHandle::deliver`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn deliver(&self, delivery: Delivery, bytes: usize) -> Result<(), PushError<Delivery>> {
        either!(self, handle => handle.deliver(delivery, bytes))
    }

    /// As [`TaskHandle::deliver_always`].
    pub(crate) fn deliver_always(&self, delivery: Delivery) -> bool {
        either!(self, handle => handle.deliver_always(delivery))
    }

    /// As [`TaskHandle::deliver_answer`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn deliver_answer(&self, answer: Delivery, bytes: usize) -> Result<(), PushError<Delivery>> {
        either!(self, handle => handle.deliver_answer(answer, bytes))
    }

    /// As [`TaskHandle::command`].
    pub(crate) fn command(&self, command: SessionCommand) -> bool {
        either!(self, handle => handle.command(command))
    }

    /// As [`TaskHandle::command_urgent`].
    pub(crate) fn command_urgent(&self, command: SessionCommand) -> bool {
        either!(self, handle => handle.command_urgent(command))
    }

    /// Advises the peer to connect elsewhere, if its protocol can express that.
    pub(crate) fn advise(&self, goaway: &GoAway) {
        if let SessionHandle::Native(handle) = self {
            handle.mailbox().push_always(NativeMessage::Advise(goaway.clone()));
        }
    }

    /// Whether the peer can be advised to connect elsewhere while it stays connected.
    pub(crate) fn can_advise(&self) -> bool {
        matches!(self, SessionHandle::Native(_))
    }

    /// Whether the session has ended or is closing.
    pub(crate) fn is_closed(&self) -> bool {
        either!(self, handle => handle.is_closed())
    }

    /// Bytes of answers that the peer has not read yet.
    pub(crate) fn unwritten(&self) -> usize {
        either!(self, handle => handle.mailbox().unwritten())
    }
}

/// A task that takes deliveries: a session here, the link to another node, or a bridge.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "there is no bridge yet")]
pub(crate) enum Receiver {
    /// A session on this node.
    Session(SessionHandle),
    /// The link to the receiver's node.
    Link(LinkHandle),
    /// A bridge to a message queue.
    Bridge(BridgeHandle),
}

impl Receiver {
    fn deliver(&self, delivery: Delivery, bytes: usize) -> Result<(), PushError<Delivery>> {
        match self {
            Receiver::Session(handle) => handle.deliver(delivery, bytes),
            Receiver::Link(handle) => handle.deliver(delivery, bytes),
            Receiver::Bridge(handle) => handle.deliver(delivery, bytes),
        }
    }

    /// Sends a small delivery even if the mailbox is full; false if it is closed.
    pub(crate) fn deliver_always(&self, delivery: Delivery) -> bool {
        match self {
            Receiver::Session(handle) => handle.deliver_always(delivery),
            Receiver::Link(handle) => handle.deliver_always(delivery),
            Receiver::Bridge(handle) => handle.deliver_always(delivery),
        }
    }

    /// Asks the receiver to open a stream to its peer; `reply` is dropped if it cannot.
    pub(crate) fn open(&self, reply: StreamReply) -> bool {
        self.deliver(Delivery::Open(reply), 0).is_ok()
    }

    /// Closes the receiver's connection.
    pub(crate) fn close(&self, goaway: GoAway) -> bool {
        match self {
            Receiver::Session(handle) => handle.command(SessionCommand::Close(goaway)),
            Receiver::Link(handle) => handle.command(LinkCommand::Close(goaway)),
            Receiver::Bridge(handle) => handle.command(goaway),
        }
    }

    /// Whether the receiver has ended or is closing.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Receiver::Session(handle) => handle.is_closed(),
            Receiver::Link(handle) => handle.is_closed(),
            Receiver::Bridge(handle) => handle.is_closed(),
        }
    }

    /// Delivers a request. Never waits.
    ///
    /// # Errors
    /// The mailbox is full or closed; the request is returned so that another route can be tried.
    pub(crate) fn try_deliver(&self, request: Box<Request>) -> Result<(), DeliveryError> {
        let bytes = request.body.len() + request.custom.len() + request.name.len();
        let request_of = |delivery| match delivery {
            Delivery::Request(request) => Some(request),
            _ => None,
        };
        match self.deliver(Delivery::Request(request), bytes) {
            Ok(()) => Ok(()),
            Err(PushError::Full(d)) => request_of(d).map_or(Ok(()), |r| Err(DeliveryError::Busy(r))),
            Err(PushError::Closed(d)) => request_of(d).map_or(Ok(()), |r| Err(DeliveryError::Gone(r))),
        }
    }
}

/// Why a request was not delivered.
#[derive(Debug)]
pub(crate) enum DeliveryError {
    /// The receiver has too much queued.
    Busy(Box<Request>),
    /// The receiver is gone.
    Gone(Box<Request>),
}

/// A call or a message, with all that is needed to deliver it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Whether a reply or an acknowledgement is expected.
    pub(crate) kind: Kind,
    /// The task that is answered.
    pub(crate) origin: Origin,
    /// The origin's own number for it.
    pub(crate) id: u64,
    /// The receiver: as the caller named it, then the session that was chosen.
    pub(crate) to: Address,
    /// The id shown to the receiver: the calling edge, or the calling service.
    pub(crate) caller: u64,
    /// Selects among services; see `exchange.hashby`.
    pub(crate) key: u64,
    /// When the origin stops waiting.
    pub(crate) deadline: Instant,
    /// Method or topic.
    pub(crate) name: Str,
    /// What accompanies the payload between geminio peers; empty otherwise.
    pub(crate) custom: Bytes,
    /// The payload, never copied.
    pub(crate) body: Bytes,
    /// The caller's client does not survive a miss: the router also waits for receivers whose node has died;
    /// see [`crate::router::grace`].
    pub(crate) patient: bool,
    /// The session that a first attempt failed at: there is one redirect only, and not to that session.
    pub(crate) tried: Option<Destination>,
}

/// The task that a request came from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A session on this node, with its local number.
    Session(u64, SessionHandle),
    /// A link, with its local number: the node at its other end redirects the request if necessary.
    Link(u64, LinkHandle),
    /// The node itself (callbacks).
    Node(mpsc::UnboundedSender<RequestEvent>),
}

/// What happens to a request of the node itself.
#[derive(Debug, Clone)]
pub(crate) enum RequestEvent {
    /// It had to be resolved and was delivered there; a cancel goes there.
    Routed(Receiver),
    /// It has ended.
    Answer(Answer),
}

impl Origin {
    /// The local number of the origin; 0 is the node itself.
    pub(crate) fn no(&self) -> u64 {
        match self {
            Origin::Session(no, _) | Origin::Link(no, _) => *no,
            Origin::Node(_) => 0,
        }
    }

    /// Delivers the answer. An origin that is gone no longer needs it.
    pub(crate) fn answer(&self, id: u64, answer: Answer) {
        let bytes = if let Answer::Reply(body) = &answer { body.len() } else { 0 };
        let answer_or_drop = |pushed: Result<(), PushError<Delivery>>| match pushed {
            Err(PushError::Full(Delivery::Answer(id, answer))) => {
                // Small, and no more of them than the peer has made requests.
                Some(Delivery::Answer(id, answer.dropped()))
            }
            _ => None,
        };
        match self {
            Origin::Session(_, handle) => {
                let pushed = handle.deliver_answer(Delivery::Answer(id, answer), bytes);
                answer_or_drop(pushed).map(|dropped| handle.deliver_always(dropped));
            }
            Origin::Link(_, handle) => {
                let pushed = handle.deliver_answer(Delivery::Answer(id, answer), bytes);
                answer_or_drop(pushed).map(|dropped| handle.deliver_always(dropped));
            }
            Origin::Node(sender) => {
                let _ = sender.send(RequestEvent::Answer(answer));
            }
        }
    }

    /// Reports the receiver of a request that had to be resolved; false if the origin is gone.
    pub(crate) fn routed(&self, id: u64, to: &Receiver) -> bool {
        match self {
            Origin::Node(sender) => sender.send(RequestEvent::Routed(to.clone())).is_ok(),
            Origin::Session(_, handle) => handle.deliver_always(Delivery::Routed(id, to.clone())),
            Origin::Link(_, handle) => handle.deliver_always(Delivery::Routed(id, to.clone())),
        }
    }
}

impl Request {
    /// How other tasks refer to this request.
    pub(crate) fn key(&self) -> Key {
        Key { origin: self.origin.no(), id: self.id }
    }

    /// Ends the request with a failure.
    pub(crate) fn fail(&self, failure: Failure) {
        self.origin.answer(self.id, Answer::Failed(failure));
    }

    /// Fails a request that its caller has cancelled before a receiver has read it.
    pub(crate) fn fail_cancelled(&self) {
        self.fail(Failure::not_run(Code::CANCELLED, "the caller has cancelled it"));
    }

    /// The time until the deadline.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use limes_wire::driver::Mailbox;
    use limes_wire::frame::Execution;
    use limes_wire::limits::ANSWERS_BYTES_MAX;

    use super::*;

    #[test]
    fn replies_beyond_the_bound_of_unread_answers_become_busy() {
        let handle = TaskHandle::<NativeMessage>::new(Mailbox::new());
        let origin = Origin::Session(7, SessionHandle::Native(handle.clone()));
        let body = Bytes::from(vec![0; 1 << 20]);
        for id in 0..600 {
            origin.answer(id, Answer::Reply(body.clone()));
        }
        origin.answer(600, Answer::Done);
        let (mut replies, mut dropped) = (0, 0);
        for message in handle.mailbox().take_all() {
            match message.into_delivery() {
                Some(Delivery::Answer(_, Answer::Reply(_))) => replies += 1,
                Some(Delivery::Answer(600, Answer::Done)) => {}
                Some(Delivery::Answer(_, Answer::Failed(failure))) => {
                    assert_eq!((failure.code, failure.ran), (Code::BUSY, Execution::Completed));
                    dropped += 1;
                }
                other => unreachable!("{other:?}"),
            }
        }
        assert_eq!((replies, replies + dropped), ((ANSWERS_BYTES_MAX >> 20) + 1, 600));
    }
}
