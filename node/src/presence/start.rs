//! Starts the background tasks of presence.

use std::sync::Arc;

use limes_raft::Replica;

use super::context::Presence;
use super::{node_down, orphans, pending_callbacks, removals, resume};
use crate::tasks::{Kind, Tasks};

/// Starts the background tasks of presence, which run until `tasks` are stopped.
pub(crate) fn start(presence: &Arc<Presence>, replica: &Replica, tasks: &Tasks) {
    let handles = || (presence.clone(), replica.clone());
    let (context, member) = handles();
    tasks.spawn_critical(Kind::Removals, removals::run(context, member));
    let (context, member) = handles();
    tasks.spawn_critical(Kind::Resume, resume::run(context, member));
    let (context, member) = handles();
    tasks.spawn_critical(Kind::FailureDetector, node_down::run(context, member));
    let (context, member) = handles();
    tasks.spawn_critical(Kind::PendingCallbacks, pending_callbacks::run(context, member));
    let (context, member) = handles();
    tasks.spawn_restarting(Kind::OrphanCheck, move || orphans::run(context.clone(), member.clone()));
}
