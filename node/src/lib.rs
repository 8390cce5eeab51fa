//! The limes server: sockets, time, tasks and settings around the sans-IO crates `limes_wire` and
//! `limes_routing` and the replica of `limes_raft`.
//!
//! A module uses modules below it only (`.ci/layers` checks this):
//!
//! ```text
//!   cli  demo  dev        command line, demonstration, local clusters
//!         |
//!       server            start, drain, stop; builds the components and gives each the handles it uses
//!         |
//!       compat            the reference's control plane and directory
//!         |
//!   accept    control     listeners and HTTP; the operator API `limes.v1`
//!         |
//!        mesh             links to the other nodes
//!         |
//!      session            one connection of an edge or a service, native or geminio
//!         |
//!      presence           rows in the tables for sessions, routes for rows; callbacks; failure detection
//!         |
//!      transport          detection of protocols, limits of connections, passthrough
//!         |
//!       router            message types, resolution, selection, the registries of sessions and nodes
//!         |
//!      consensus          the handle of the Raft replica
//!         |
//!   tasks  limits  telemetry  config
//! ```
//!
//! Where to start:
//! - [`run`] (`server/run.rs`) shows the order of start and stop.
//! - A call: `session` reads the frame, `router/resolve.rs` finds the receiver and delivers the request to the
//!   mailbox of its session, or to the `mesh` link to its node; the answer returns to the mailbox of the caller.
//! - A connect: `accept/peers.rs` accepts, `session` reads the hello, `presence/admission` commits the row,
//!   `presence/applier.rs` turns the applied row into a route on every node.
//! - `router/message.rs` has the messages that tasks exchange; `tasks.rs` the kinds of tasks and what the failure
//!   of each does.

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
