//! A node from start to shutdown.

pub(crate) mod assemble;
mod drain;
mod memory_watch;
mod operator_ports;
mod quorum_watch;
mod run;

pub(crate) use run::raft_config;
pub use run::{StartError, run};
