//! Calls that the node itself makes to services.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::callback::EdgeFacts;
use limes_wire::frame::Ran;
use limes_wire::{Code, Str};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::forward;
use crate::mail::{Answer, Failure, Kind, Origin, Request, Target};
use crate::node::Node;

/// How long a service may take to answer a callback: less than an edge's handshake.
const TIME: Duration = Duration::from_secs(3);

/// What a service said.
pub(super) enum Said {
    /// Its reply.
    Yes(Bytes),
    /// Its own error.
    No(String),
    /// No answer of its own: nobody was there, or it is not known.
    Nothing(Failure),
}

/// Whether a service offers the callback.
pub(super) fn has_provider(node: &Node, method: &str) -> bool {
    !node.services.load().method(method).is_empty()
}

/// Asks a service, chosen by the edge.
pub(super) async fn ask(node: &Arc<Node>, method: &'static str, facts: &EdgeFacts) -> Said {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let request = Request {
        kind: Kind::Call,
        origin: Origin::Node(sender),
        id: node.sessions.issue(),
        target: Target::any_service(),
        caller: facts.edge,
        key: node.callback_key(method, facts.edge, &facts.addr),
        deadline: Instant::now() + TIME,
        name: Str::from_static(method),
        custom: Bytes::new(),
        body: facts.encode(),
        tried: None,
    };
    forward::dispatch(node, Box::new(request));
    let late = || Failure::may_have_run(Code::TIMEOUT, "no answer in time");
    match timeout(TIME, answers.recv()).await {
        Ok(Some((_, Answer::Reply(body)))) => Said::Yes(body),
        Ok(Some((_, Answer::Done))) => Said::Yes(Bytes::new()),
        Ok(Some((_, Answer::Failed(failure)))) if failure.ran == Ran::Yes => Said::No(failure.text),
        Ok(Some((_, Answer::Failed(failure)))) => Said::Nothing(failure),
        Ok(None) | Err(_) => Said::Nothing(late()),
    }
}
