//! Presence: connects and disconnects become events; effects of applied events become routes.
//!
//! [`admit`] leads a newcomer into the tables; [`watcher`] turns every applied batch into the
//! directory, the service index and mail to sessions; [`removals`] takes sessions out again;
//! [`resume`] revives rows after this node was wrongly declared dead; [`down`] is the leader's eye
//! on the other nodes; [`owed`] makes the callbacks that are due; [`ghosts`] looks for rows without a
//! socket; [`changes`] keeps what has changed for those who watch.

mod admission;
mod applier;
mod callbacks;
mod change_log;
mod id_allocator;
mod node_down;
mod orphans;
mod pending_callbacks;
mod registration;
mod removals;
mod resume;
#[cfg(test)]
mod tests;
mod tickets;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use limes_routing::{EdgeId, Epoch, Incarnation, NodeId, Revision, Tables};
use limes_wire::Code;
use limes_wire::frame::GoAway;
use tokio::sync::{Notify, oneshot};

pub(crate) use admission::{Dialect, NOTICE, Newcomer, admit};
pub(crate) use applier::Applier;
pub(crate) use change_log::{Changes, Seen};
pub(crate) use registration::{NameChange, name};
pub(crate) use removals::{session_closed, settled};

use crate::node::Node;
use crate::router::message::Mail;
use crate::tasks;
use id_allocator::Ids;
use removals::Removals;

/// Which member this is, and which process of it.
#[derive(Debug, Clone, Copy)]
struct Identity {
    node: NodeId,
    cluster: [u8; 16],
    boot: [u8; 16],
}

/// What presence remembers beside the tables.
pub(crate) struct Presence {
    identity: OnceLock<Identity>,
    applied: AtomicU64,
    /// The first epoch of this process; 0 before.
    first_epoch: AtomicU64,
    /// The live epoch; 0 before and while fenced.
    epoch: AtomicU64,
    edge_ids: Ids,
    service_ids: Ids,
    removals: Removals,
    /// Nodes that are being told of a takeover, by the new session's number.
    notices: Mutex<HashMap<u64, Vec<oneshot::Receiver<()>>>>,
    owed: Notify,
    resume: Notify,
    /// What has changed lately.
    pub(crate) changes: Changes,
}

impl Presence {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Presence {
            identity: OnceLock::new(),
            applied: AtomicU64::new(0),
            first_epoch: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            edge_ids: Ids::default(),
            service_ids: Ids::default(),
            removals: Removals::new(),
            notices: Mutex::default(),
            owed: Notify::new(),
            resume: Notify::new(),
            changes: Changes::new(),
        }
    }

    /// This node's member number; 0 while it has none.
    pub(crate) fn node(&self) -> NodeId {
        self.identity.get().map_or(NodeId(0), |identity| identity.node)
    }

    /// The cluster's id; zeros while there is none.
    pub(crate) fn cluster(&self) -> [u8; 16] {
        self.identity.get().map_or([0; 16], |identity| identity.cluster)
    }

    /// The newest applied revision.
    pub(crate) fn applied(&self) -> Revision {
        Revision(self.applied.load(Ordering::Acquire))
    }

    /// Whether sessions numbered under this epoch are of this process.
    pub(crate) fn is_own_epoch(&self, epoch: Epoch) -> bool {
        let first = self.first_epoch.load(Ordering::Acquire);
        first != 0 && epoch.0 >= first
    }

    /// Whether the tables hold this very process's life of the node.
    fn is_own_boot(&self, tables: &Tables) -> bool {
        self.identity.get().is_some_and(|own| tables.node(own.node).is_some_and(|row| row.boot == own.boot))
    }

    fn expect_notice(&self, session: u64, told: oneshot::Receiver<()>) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).entry(session).or_default().push(told);
    }

    fn take_notices(&self, session: u64) -> Vec<oneshot::Receiver<()>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).remove(&session).unwrap_or_default()
    }
}

/// Starts what presence does by itself; the tasks end with the runtime.
pub(crate) fn start(node: &Arc<Node>) {
    tasks::vital(tasks::Kind::Presence, removals::run(node.clone()));
    tasks::vital(tasks::Kind::Presence, resume::run(node.clone()));
    tasks::vital(tasks::Kind::Presence, node_down::run(node.clone()));
    tasks::vital(tasks::Kind::Presence, pending_callbacks::run(node.clone()));
    tasks::vital(tasks::Kind::Presence, orphans::run(node.clone()));
}

/// Another node says that an edge lives there now: nothing new is routed to lower incarnations here, and
/// they are closed, or may finish what is in flight if the edge moves in order.
pub(crate) fn taken_over(node: &Node, edge: EdgeId, incarnation: Incarnation, moving: bool) {
    let Some(outbox) = node.directory.moved(edge, incarnation) else { return };
    if !moving {
        outbox.push_urgent(Mail::Close(GoAway::new(Code::REPLACED, "a newer connection took over")));
    }
}
