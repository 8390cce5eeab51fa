//! Methods and topics that services offer and take.

use std::sync::Arc;

use limes_routing::{Event, SessionNo, Verdict};
use limes_wire::{Code, Str};

use crate::directory::Who;
use crate::mail::Mail;
use crate::node::Node;

/// What a service wants done with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Offer methods.
    Register,
    /// Offer them no longer.
    Withdraw,
    /// Take topics.
    Subscribe,
    /// Take them no longer.
    Unsubscribe,
}

/// Proposes a change of names; the answer goes to the session as mail, after this node has applied
/// it.
pub(crate) async fn name(node: Arc<Node>, no: u64, naming: Naming, id: u64, names: Vec<Str>) {
    let Some(entry) = node.sessions.get(no) else { return };
    let Who::Service(service, _) = entry.who else { return };
    let session = SessionNo(no);
    let names = names.iter().map(|name| name.as_str().into()).collect();
    let event = match naming {
        Naming::Register => Event::MethodsRegistered { service, session, names },
        Naming::Withdraw => Event::MethodsWithdrawn { service, session, names },
        Naming::Subscribe => Event::TopicsSubscribed { service, session, names },
        Naming::Unsubscribe => Event::TopicsUnsubscribed { service, session, names },
    };
    let (code, text) = match node.replica() {
        None => (Code::NO_QUORUM, "this node is starting".to_owned()),
        Some(replica) => match replica.proposer().submit(event).await {
            Ok(Verdict::Rejected(reason)) => (Code::GONE, reason.to_string()),
            Ok(_) => (Code::OK, String::new()),
            Err(error) => (Code::NO_QUORUM, error.to_string()),
        },
    };
    entry.outbox.push_always(Mail::Named { id, code, text });
}
