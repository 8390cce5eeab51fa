//! Calls that the node itself makes to services.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::callback::EdgeFacts;
use limes_wire::frame::Execution;
use limes_wire::{Code, Str};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::context::Presence;
use crate::router::message::{Address, Answer, Delivery, Failure, Kind, Origin, Request, RequestEvent};
use crate::router::resolve;

/// How long a service may take to answer a callback that an edge waits for: less than the edge's handshake.
pub(super) const TIME: Duration = Duration::from_secs(3);

/// The outcome of a callback.
pub(super) enum CallbackOutcome {
    /// The service's reply.
    Accepted(Bytes),
    /// The service's own error.
    Refused(String),
    /// No answer from a service: no service was there, or its answer is not known.
    Unanswered(Failure),
}

/// Whether a service offers the callback.
pub(super) fn has_provider(presence: &Presence, method: &str) -> bool {
    !presence.services.load().method(method).is_empty()
}

/// Calls a service that offers the callback, selected by the edge. Waits for `time` at most.
pub(super) async fn ask(
    presence: &Arc<Presence>,
    method: &'static str,
    facts: &EdgeFacts,
    time: Duration,
) -> CallbackOutcome {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let request = Request {
        kind: Kind::Call,
        origin: Origin::Node(sender),
        id: presence.sessions.issue(),
        to: Address::service(),
        caller: facts.edge,
        key: presence.router.callback_key(method, facts.edge, &facts.addr),
        deadline: Instant::now() + time,
        name: Str::from_static(method),
        custom: Bytes::new(),
        body: facts.encode(),
        patient: false,
        tried: None,
    };
    let key = request.key();
    let mut at = resolve::dispatch(&presence.router, Box::new(request));
    let answer = async {
        loop {
            match answers.recv().await? {
                RequestEvent::Routed(to) => at = Some(to),
                RequestEvent::Answer(answer) => return Some(answer),
            }
        }
    };
    match timeout(time, answer).await {
        Ok(Some(Answer::Reply(body))) => CallbackOutcome::Accepted(body),
        Ok(Some(Answer::Done)) => CallbackOutcome::Accepted(Bytes::new()),
        Ok(Some(Answer::Failed(failure))) if failure.ran == Execution::Completed => {
            CallbackOutcome::Refused(failure.text)
        }
        Ok(Some(Answer::Failed(failure))) => CallbackOutcome::Unanswered(failure),
        Ok(None) | Err(_) => {
            if let Some(at) = at {
                at.deliver_always(Delivery::Cancel(key));
            }
            CallbackOutcome::Unanswered(Failure::may_have_run(Code::TIMEOUT, "no answer in time"))
        }
    }
}
