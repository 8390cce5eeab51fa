//! Presence and routing tables: a pure function of replicated events.
//!
//! No IO, no clock, no randomness and no hash-map order: the same entries give the same tables on every node.
//! [`Tables::apply`] takes one [`Batch`] at one [`Revision`]; it returns verdicts for the proposer, and [`Effect`]s for the
//! code that owns sockets.
//!
//! ```text
//!   entry of the log            ┌─ verdicts ─▶ the proposer
//!   (Revision, Batch) ─▶ Tables ┼─ effects ──▶ sessions, callbacks, watch
//!                          │    └─ lookups ──▶ routes, listings
//!                          │
//!                 snapshot ┴ diff: for a node that skipped entries
//!
//!   candidates of a name ─▶ pick ─▶ one session
//! ```
//!
//! # Layers
//! Modules use only modules to their left: `id` ← `codec`, `effect`, `pick`, `watch` ← `event` ← `rows`, `batch` ←
//! `sessions`, `shards` ← `tables` ← `check`, `diff`, `snapshot`.

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
pub use rows::{Cluster, EdgeRow, Member, NodeRow, PendingCallback, ServiceRow};
pub use tables::{Applied, Tables};
