//! A node from start to shutdown.

pub(crate) mod quorum_watch;
mod run;

pub(crate) use run::raft_config;
pub use run::{StartError, run};
