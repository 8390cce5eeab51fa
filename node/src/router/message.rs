//! What the tasks of a node say to each other.
//!
//! A session and a mesh link are each one task with one bounded mailbox. A request travels as one
//! [`Request`] into the mailbox of whoever can deliver it, and exactly one [`Answer`] comes back to
//! the mailbox named by its [`Origin`]. All maps of what is in flight live inside those tasks, so
//! that no lock is shared by sessions.

use std::time::Instant;

use bytes::Bytes;
use limes_routing::{EdgeId, Epoch, Incarnation, ServiceId, SessionNo};
use limes_wire::driver::{Mailbox, PushError, Stream};
use limes_wire::frame::{Execution, GoAway, Welcome};
use limes_wire::{Code, Str};
use tokio::sync::{mpsc, oneshot};

use crate::session::geminio::StreamCommand;

/// The mailbox of a session or of a mesh link.
pub(crate) type Outbox = Mailbox<Mail>;

/// One thing that a task is told by another.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Deliver this and answer its origin.
    Request(Box<Request>),
    /// A request that had to look for its way has found it; a cancel goes there.
    Routed(u64, Outbox),
    /// A request that came from this task has ended.
    Answer(u64, Answer),
    /// The origin no longer waits for its request.
    Cancel(Key),
    /// Open a stream to the peer; the sender writes its first record.
    Open(oneshot::Sender<Result<Stream, Code>>),
    /// The session is in the tables: let it begin.
    Welcome(Box<Welcome>),
    /// A register, withdraw, subscribe or unsubscribe has been decided.
    Named { id: u64, code: Code, text: String },
    /// Say good-bye and close.
    Close(GoAway),
    /// Tell the peer that another node would serve it better, and go on serving it.
    Advise(GoAway),
    /// Take no new requests; close when nothing is in flight or at the instant given.
    Retire(GoAway, Instant),
    /// Fail what was sent to this node: it is gone (mesh links only).
    PeerDown,
    /// Tell the node at the other end that one of its edges lives here now (mesh links only).
    Takeover { edge: EdgeId, incarnation: Incarnation, moving: bool, told: oneshot::Sender<()> },
    /// A session at the other end is over, by the tables (mesh links only): what has been forwarded to it
    /// ends with this code.
    SessionOver(Target, Code),
    /// Measure that the peer is alive (mesh links only).
    Ping,
    /// This node has been without a quorum for long, and others have it: who cannot look for another node
    /// by itself is closed (edges in the geminio dialect only).
    Isolated(GoAway),
    /// Something about a stream of this peer (sessions in the geminio dialect only).
    Stream(Box<StreamCommand>),
}

/// A call or a message, with all that is needed to deliver it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Whether a reply or an acknowledgement is expected.
    pub(crate) kind: Kind,
    /// SessionOwner is answered.
    pub(crate) origin: Origin,
    /// The origin's own number for it.
    pub(crate) id: u64,
    /// The session it is meant for.
    pub(crate) target: Target,
    /// The id shown to the receiver: the calling edge, or the calling service.
    pub(crate) caller: u64,
    /// Chooses among services; see `exchange.hashby`.
    pub(crate) key: u64,
    /// When the origin gives up.
    pub(crate) deadline: Instant,
    /// Method or topic.
    pub(crate) name: Str,
    /// What goes beside the payload, between peers of a dialect that has it; else empty.
    pub(crate) custom: Bytes,
    /// The payload, never copied.
    pub(crate) body: Bytes,
    /// Its caller would not survive a miss: it waits also for whoever was on a node that has died; see
    /// [`crate::router::grace`].
    pub(crate) patient: bool,
    /// Where it has been sent in vain, after one redirect: there is no second, and not to there.
    pub(crate) tried: Option<Target>,
}

/// What sort of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Answered by a reply.
    Call,
    /// Answered by an acknowledgement.
    Message,
}

/// The session that a request is meant for, with its generation.
///
/// [`crate::router::resolve`] fills the generation in; before that it is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// This incarnation of an edge.
    Edge(EdgeId, Incarnation),
    /// This session of a service, on a node of this epoch.
    Service(ServiceId, SessionNo, Epoch),
}

impl Target {
    /// Whatever session the edge has.
    pub(crate) fn edge(edge: u64) -> Self {
        Target::Edge(EdgeId(edge), Incarnation::default())
    }

    /// Whichever service offers the method or topic.
    pub(crate) fn any_service() -> Self {
        Target::Service(ServiceId(0), SessionNo(0), Epoch(0))
    }
}

/// Identifies a request within a node: the origin's number and the origin's id for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// [`Origin::no`].
    pub(crate) origin: u64,
    /// [`Request::id`].
    pub(crate) id: u64,
}

/// SessionOwner is answered.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A session on this node, with its local number.
    Peer(u64, Outbox),
    /// A link, with its local number: the node at its other end looks for another way if there is need to.
    Link(u64, Outbox),
    /// The node itself (callbacks).
    Node(mpsc::UnboundedSender<Heard>),
}

/// What the node hears of a request of its own.
#[derive(Debug, Clone)]
pub(crate) enum Heard {
    /// It had to look for its way, and has found it; a cancel goes there.
    Routed(Outbox),
    /// It has ended.
    Answer(Answer),
}

impl Origin {
    /// The local number of the origin; 0 is the node itself.
    pub(crate) fn no(&self) -> u64 {
        match self {
            Origin::Peer(no, _) | Origin::Link(no, _) => *no,
            Origin::Node(_) => 0,
        }
    }

    /// Delivers the answer. An origin that is gone no longer needs it.
    pub(crate) fn answer(&self, id: u64, answer: Answer) {
        match self {
            Origin::Peer(_, outbox) | Origin::Link(_, outbox) => {
                let bytes = if let Answer::Reply(body) = &answer { body.len() } else { 0 };
                let pushed = outbox.push_answer(Mail::Answer(id, answer), bytes);
                // Small, and no more of them than the peer has asked for.
                if let Err(PushError::Full(Mail::Answer(id, answer))) = pushed {
                    outbox.push_always(Mail::Answer(id, answer.dropped()));
                }
            }
            Origin::Node(sender) => {
                let _ = sender.send(Heard::Answer(answer));
            }
        }
    }

    /// Says who has a request that had to look for its way; false: the origin is gone.
    pub(crate) fn routed(&self, id: u64, to: &Outbox) -> bool {
        match self {
            Origin::Peer(_, outbox) | Origin::Link(_, outbox) => {
                outbox.push_always(Mail::Routed(id, to.clone()))
            }
            Origin::Node(sender) => sender.send(Heard::Routed(to.clone())).is_ok(),
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// The receiver's reply to a call.
    Reply(Bytes),
    /// The receiver has taken a message over.
    Done,
    /// It failed.
    Failed(Failure),
}

impl Answer {
    /// What is left of it for a caller that does not take its answers.
    fn dropped(self) -> Answer {
        match self {
            Answer::Reply(_) => Answer::Failed(Failure {
                code: Code::BUSY,
                ran: Execution::Completed,
                text: "too many answers wait for you unread; this reply was dropped".to_owned(),
                revision: 0,
            }),
            small => small,
        }
    }
}

/// Why a request failed and whether it may have run.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// From the closed set.
    pub(crate) code: Code,
    /// What the caller may assume.
    pub(crate) ran: Execution,
    /// One line for a person.
    pub(crate) text: String,
    /// For `MOVED`: the revision at which the answering node knew better; else 0.
    pub(crate) revision: u64,
}

impl Failure {
    /// A failure of a request that certainly was not run.
    pub(crate) fn not_run(code: Code, text: impl Into<String>) -> Self {
        Failure { code, ran: Execution::NotStarted, text: text.into(), revision: 0 }
    }

    /// A failure of a request that was handed to its receiver.
    pub(crate) fn may_have_run(code: Code, text: impl Into<String>) -> Self {
        Failure { code, ran: Execution::Unknown, text: text.into(), revision: 0 }
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

    /// Ends a request that nobody has read and whose caller does not wait any more.
    pub(crate) fn unwanted(&self) {
        self.fail(Failure::not_run(Code::CANCELLED, "its caller does not wait any more"));
    }

    /// Time left before the origin gives up.
    pub(crate) fn remaining(&self, now: Instant) -> std::time::Duration {
        self.deadline.saturating_duration_since(now)
    }
}

/// Why a request did not fit into a mailbox; it comes back so that another way can be tried.
#[derive(Debug)]
pub(crate) enum DeliveryError {
    /// The receiver has too much queued.
    Busy(Box<Request>),
    /// The receiver is gone.
    Gone(Box<Request>),
}

/// Puts a request into the mailbox of whoever delivers it. Never waits.
pub(crate) fn try_deliver(outbox: &Outbox, request: Box<Request>) -> Result<(), DeliveryError> {
    let bytes = request.body.len() + request.custom.len() + request.name.len();
    let unwrap = |mail| match mail {
        Mail::Request(request) => Some(request),
        _ => None,
    };
    match outbox.push(Mail::Request(request), bytes) {
        Ok(()) => Ok(()),
        Err(PushError::Full(mail)) => unwrap(mail).map_or(Ok(()), |r| Err(DeliveryError::Busy(r))),
        Err(PushError::Closed(mail)) => unwrap(mail).map_or(Ok(()), |r| Err(DeliveryError::Gone(r))),
    }
}

#[cfg(test)]
mod tests {
    use limes_wire::limits::ANSWERS_BYTES_MAX;

    use super::*;

    #[test]
    fn who_does_not_take_its_answers_is_told_so_instead() {
        let outbox = Outbox::new();
        let origin = Origin::Peer(7, outbox.clone());
        let body = Bytes::from(vec![0; 1 << 20]);
        for id in 0..600 {
            origin.answer(id, Answer::Reply(body.clone()));
        }
        origin.answer(600, Answer::Done);
        let (mut replies, mut dropped) = (0, 0);
        for mail in outbox.take_all() {
            match mail {
                Mail::Answer(_, Answer::Reply(_)) => replies += 1,
                Mail::Answer(600, Answer::Done) => {}
                Mail::Answer(_, Answer::Failed(failure)) => {
                    assert_eq!((failure.code, failure.ran), (Code::BUSY, Execution::Completed));
                    dropped += 1;
                }
                other => unreachable!("{other:?}"),
            }
        }
        assert_eq!((replies, replies + dropped), ((ANSWERS_BYTES_MAX >> 20) + 1, 600));
    }
}
