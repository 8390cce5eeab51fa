//! Presence and routing tables as a pure fold over replicated events.
//!
//! No IO, no clock, no randomness and no hash-map order: the same entries give the same tables on
//! every node. [`Tables::apply`] takes one [`Batch`] at one [`Revision`] and returns verdicts for
//! the proposer and [`Effect`]s for whoever owns sockets.

mod batch;
pub mod check;
mod codec;
mod diff;
mod effect;
mod event;
mod id;
pub mod pick;
mod rows;
mod sessions;
mod shards;
mod snapshot;
mod tables;
pub mod watch;

pub use batch::{Batch, Origin};
pub use codec::DecodeError;
pub use diff::diff;
pub use effect::{Effect, Reason, Verdict, Why};
pub use event::{Event, Founder, LEVEL, Levels, NodeAddrs};
pub use id::{EdgeId, Epoch, Home, Incarnation, NodeId, Position, Revision, ServiceId, SessionNo};
pub use rows::{Cluster, EdgeRow, Member, NodeRow, Owed, ServiceRow};
pub use tables::{Applied, Tables};
