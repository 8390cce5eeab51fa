//! The node's view of its Raft replica: the handle that all components share, the log lines about the
//! leader, and the announcement of a planned stop.

pub(crate) mod departure;
pub(crate) mod handle;
pub(crate) mod leader_log;
