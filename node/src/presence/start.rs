//! Starts the background tasks of presence.

use std::sync::Arc;

use super::context::Presence;
use super::{node_down, orphans, pending_callbacks, removals, resume};
use crate::tasks;

/// Starts what presence does by itself; the tasks end with the runtime.
pub(crate) fn start(presence: &Arc<Presence>) {
    tasks::vital(tasks::Kind::Presence, removals::run(presence.clone()));
    tasks::vital(tasks::Kind::Presence, resume::run(presence.clone()));
    tasks::vital(tasks::Kind::Presence, node_down::run(presence.clone()));
    tasks::vital(tasks::Kind::Presence, pending_callbacks::run(presence.clone()));
    tasks::vital(tasks::Kind::Presence, orphans::run(presence.clone()));
}
