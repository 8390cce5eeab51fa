//! Registration: the methods that services offer and the topics that they take.

use std::sync::Arc;

use limes_routing::{Event, SessionNo, Verdict};
use limes_wire::{Code, Str};

use super::context::Presence;
use crate::router::message::SessionCommand;
use crate::router::registry::SessionOwner;

/// A change of a service's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameChange {
    /// Adds methods.
    Register,
    /// Removes methods.
    Withdraw,
    /// Adds topics.
    Subscribe,
    /// Removes topics.
    Unsubscribe,
}

/// Proposes a change of names; the outcome goes to the session as a command, after this node has applied the
/// change.
///
/// # Cancel safety
/// Not cancel safe: a dropped change may be committed without an outcome.
pub(crate) async fn change_names(
    presence: Arc<Presence>,
    no: u64,
    change: NameChange,
    id: u64,
    names: Vec<Str>,
) {
    let Some(entry) = presence.sessions.get(no) else { return };
    let SessionOwner::Service(service, _) = entry.owner else { return };
    let session = SessionNo(no);
    let adds = matches!(change, NameChange::Register | NameChange::Subscribe);
    if let Some(text) = adds.then(|| too_many(&presence, session, change, &names)).flatten() {
        entry.handle.command(SessionCommand::NamesDecided { id, code: Code::LIMIT, text });
        return;
    }
    let names = names.iter().map(|name| (&**name).into()).collect();
    let event = match change {
        NameChange::Register => Event::MethodsRegistered { service, session, names },
        NameChange::Withdraw => Event::MethodsWithdrawn { service, session, names },
        NameChange::Subscribe => Event::TopicsSubscribed { service, session, names },
        NameChange::Unsubscribe => Event::TopicsUnsubscribed { service, session, names },
    };
    let (code, text) = match presence.consensus.replica() {
        // R10: a node that knows that it has no quorum fails at once instead of waiting for it.
        Some(_) if !presence.consensus.is_ready() => {
            (Code::NO_QUORUM, "this node has lost the cluster".to_owned())
        }
        None => (Code::NO_QUORUM, "this node is starting".to_owned()),
        Some(replica) => match replica.proposer().submit(event).await {
            Ok(Verdict::Rejected(reason)) => (Code::GONE, reason.to_string()),
            Ok(_) => (Code::OK, String::new()),
            Err(error) => (Code::NO_QUORUM, error.to_string()),
        },
    };
    entry.handle.command(SessionCommand::NamesDecided { id, code, text });
}

/// The refusal of names over the limit (PROTOCOL 9.2). A native service has one such request at a time; a service of
/// the reference may have several, and so end up with a few names more.
fn too_many(presence: &Presence, session: SessionNo, change: NameChange, names: &[Str]) -> Option<String> {
    let most = presence.config.names_max;
    let me = presence.consensus.node()?;
    let held = presence.consensus.replica()?.read(|tables| {
        let mut rows = tables.services();
        let row = rows.find(|row| row.home.node == me && row.home.session == session)?;
        let held = if change == NameChange::Register { &row.methods } else { &row.topics };
        let new = names.iter().filter(|name| !held.contains(&***name)).count();
        Some(row.methods.len() + row.topics.len() + new)
    });
    held.filter(|held| *held > most)
        .map(|_| format!("a service may have {most} methods and topics (limits.names)"))
}
