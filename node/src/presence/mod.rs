//! Presence: connects and disconnects become events; effects of applied events become routes.
//!
//! [`admission`] takes a peer from its hello to a row in the tables; [`applier`] turns every applied batch
//! into edge routes, the service index and commands to sessions; [`removals`] removes the rows of ended
//! sessions; [`resume`] revives rows after this node was wrongly declared down; [`node_down`] is the leader's
//! failure detector; [`pending_callbacks`] makes the callbacks that are due; [`orphans`] finds rows without a
//! session; [`change_log`] keeps recent changes for watchers.

pub(crate) mod admission;
pub(crate) mod applier;
mod callbacks;
pub(crate) mod change_log;
pub(crate) mod context;
mod id_allocator;
mod node_down;
mod orphans;
mod pending_callbacks;
pub(crate) mod registration;
mod removal_queue;
mod removals;
mod resume;
mod start;
#[cfg(test)]
mod tests;
mod tickets;

pub(crate) use context::Presence;
pub(crate) use start::start;
