//! The limes server: sockets, time, tasks and settings around the pure rooms `wire` and `routing`.
//!
//! Read in this order: [`run`] starts a node; `listen` accepts connections; `session` is one
//! peer's connection; `forward` finds where a request goes; `mesh` carries it to another node;
//! `presence` turns connects and disconnects into replicated events and their effects back into
//! routes.

mod accept;
pub mod cli;
mod compat;
pub mod config;
mod consensus;
mod control;
pub mod demo;
pub mod dev;
mod limits;
mod mesh;
mod presence;
mod router;
mod server;
mod session;
mod tasks;
mod telemetry;
mod transport;

pub use server::{StartError, run};
