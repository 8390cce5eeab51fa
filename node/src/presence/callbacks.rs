//! Calls that the node itself makes to services.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::callback::EdgeFacts;
use limes_wire::frame::Execution;
use limes_wire::{Code, Str};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::node::Node;
use crate::router::message::{Answer, Failure, Heard, Kind, Mail, Origin, Request, Target};
use crate::router::resolve;

/// How long a service may take to answer what an edge waits for: less than its handshake.
pub(super) const TIME: Duration = Duration::from_secs(3);

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

/// Asks a service, chosen by the edge, which may take so long to answer.
pub(super) async fn ask(node: &Arc<Node>, method: &'static str, facts: &EdgeFacts, time: Duration) -> Said {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let request = Request {
        kind: Kind::Call,
        origin: Origin::Node(sender),
        id: node.sessions.issue(),
        target: Target::any_service(),
        caller: facts.edge,
        key: node.callback_key(method, facts.edge, &facts.addr),
        deadline: Instant::now() + time,
        name: Str::from_static(method),
        custom: Bytes::new(),
        body: facts.encode(),
        patient: false,
        tried: None,
    };
    let key = request.key();
    let mut at = resolve::dispatch(node, Box::new(request));
    let answer = async {
        loop {
            match answers.recv().await? {
                Heard::Routed(to) => at = Some(to),
                Heard::Answer(answer) => return Some(answer),
            }
        }
    };
    match timeout(time, answer).await {
        Ok(Some(Answer::Reply(body))) => Said::Yes(body),
        Ok(Some(Answer::Done)) => Said::Yes(Bytes::new()),
        Ok(Some(Answer::Failed(failure))) if failure.ran == Execution::Completed => Said::No(failure.text),
        Ok(Some(Answer::Failed(failure))) => Said::Nothing(failure),
        Ok(None) | Err(_) => {
            if let Some(at) = at {
                at.push_always(Mail::Cancel(key));
            }
            Said::Nothing(Failure::may_have_run(Code::TIMEOUT, "no answer in time"))
        }
    }
}
