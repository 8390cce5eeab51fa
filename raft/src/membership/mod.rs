//! The members of the cluster: adding and removing them, keeping Raft's configuration and the tables in line,
//! and reporting a lost quorum.

pub(crate) mod admin;
pub(crate) mod admit;
pub(crate) mod change;
pub(crate) mod quorum_report;
pub(crate) mod reconcile;
pub(crate) mod survey;
