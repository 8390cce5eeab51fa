//! The node's view of its Raft replica.

pub(crate) mod departure;
pub(crate) mod leader_log;
