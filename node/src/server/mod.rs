//! A node from start to shutdown: [`run`] shows the order of both.

pub(crate) mod assemble;
mod drain;
mod memory_watch;
mod operator_ports;
mod ports;
mod quorum_watch;
mod raft_config;
mod run;

pub(crate) use raft_config::raft_config;
pub use run::{StartError, run};
