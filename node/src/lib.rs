//! The limes server: sockets, time, tasks and settings around the pure rooms `wire` and `routing`.
//!
//! Read in this order: [`run`] starts a node; `listen` accepts connections; `session` is one
//! peer's connection; `forward` finds where a request goes; `mesh` carries it to another node;
//! `presence` turns connects and disconnects into replicated events and their effects back into
//! routes.

mod awaited;
mod choice;
pub mod cli;
mod compat;
pub mod config;
mod control;
pub mod demo;
pub mod dev;
mod directory;
mod edge_methods;
mod files;
mod forward;
mod geminio;
mod isolation;
mod lanes;
mod leader;
mod leaving;
mod listen;
mod mail;
mod mesh;
mod node;
mod notice;
mod presence;
mod pressure;
mod run;
mod services;
mod session;
mod status;
mod stream;
mod task;

pub use run::{StartError, run};
