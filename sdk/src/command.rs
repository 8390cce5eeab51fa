//! What other tasks ask of a connection's task.

use std::time::Instant;

use bytes::Bytes;
use limes_wire::driver::{Mailbox, Stream as RawStream};
use limes_wire::{Code, Str};
use tokio::sync::oneshot;

use crate::call::Failed;
use crate::error::CallError;

/// Sends commands to the task of one connection; cheap to clone.
pub(crate) type LinkHandle = Mailbox<LinkCommand>;
/// Takes the result of a request.
pub(crate) type ResultSender = oneshot::Sender<Result<Bytes, CallError>>;

/// A call or a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// Answered with bytes.
    Call,
    /// Acknowledged.
    Message,
}

/// A call or a message to be sent.
#[derive(Debug)]
pub(crate) struct PendingRequest {
    /// Unique among the client's requests.
    pub(crate) id: u64,
    pub(crate) kind: RequestKind,
    /// The edge to reach; `None` at an edge, where the gateway selects a service.
    pub(crate) peer: Option<u64>,
    /// The method or topic.
    pub(crate) name: Str,
    pub(crate) body: Bytes,
    pub(crate) deadline: Instant,
    pub(crate) result: ResultSender,
}

/// A change of the names that a service offers or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameChange {
    /// Offer methods.
    Register,
    /// Offer methods no longer.
    Withdraw,
    /// Take topics.
    Subscribe,
    /// Take topics no longer.
    Unsubscribe,
}

/// A command to the task of a connection.
#[derive(Debug)]
pub(crate) enum LinkCommand {
    /// Send a call or a message.
    Send(PendingRequest),
    /// Cancel the request of this id, if it is still unanswered.
    Cancel(u64),
    /// Answer a call with what its handler returned.
    Answer {
        /// The call's id.
        id: u64,
        result: Result<Bytes, Failed>,
    },
    /// Acknowledge or refuse a message.
    Ack {
        /// The message's id.
        id: u64,
        code: Code,
        text: String,
    },
    /// Change names.
    ChangeNames {
        /// Unique among the client's requests.
        id: u64,
        change: NameChange,
        names: Vec<Str>,
        result: ResultSender,
    },
    /// Open a stream.
    OpenStream(oneshot::Sender<Result<RawStream, Code>>),
    /// Close once no call and no handler is in flight and, with `streams`, no stream is open; at `until` in any case.
    Finish { until: Instant, streams: bool },
    /// Close now.
    Close,
}
