//! Replicates routing events through Raft and serves consistent reads.
//!
//! [`Replica`] is one member. It finds or founds its cluster, keeps the log, applies committed batches to the
//! tables, and reports each change to an [`Observer`]. This crate knows nothing of the sockets of edges and
//! services, and is given the connections of other members.
//!
//! ```text
//!   node: presence, control                         node: Observer
//!      | events           | reads                       ^ batches, effects
//!      v                  v                             |
//!  Proposer          ReadBarriers                  AppliedState ---> History
//!  numbers and       one ReadIndex round           tables, epoch,      (sled)
//!  batches events    for many readers              verdicts
//!      |                  |                             ^
//!      | batch            | index to wait for           | apply
//!      v                  v                             |
//!  +------------------ openraft ------------------------+--- StateMachine
//!  |                      |                                    |
//!  | RPCs                 | append, one fdatasync a group      | snapshot
//!  v                      v                                    v
//!  network: peers     storage::log: SegmentLog           storage::snapshot
//! ```
//!
//! A proposal goes: [`Proposer`] -> the leader's openraft -> the logs of a quorum -> commit -> apply on every
//! member -> the verdict back to the proposer. [`Replica::start`] assembles the parts: it identifies the member
//! (bootstrap), starts Raft (consensus), and starts the tasks that keep the member registered and, on the
//! leader, the membership in line (membership).
//!
//! # Layers
//!
//! A module uses only modules of lower layers:
//!
//! 1. `history`, `metrics`, `observer`, `tasks`, `types`
//! 2. `config`, `storage`
//! 3. `network`
//! 4. `consensus`
//! 5. `membership`
//! 6. `bootstrap`
//! 7. `replica`
//!
//! Identity and member cache are in `storage`, not in `bootstrap`, because every layer above reads them.

mod bootstrap;
mod config;
mod consensus;
mod history;
mod membership;
mod metrics;
mod network;
mod observer;
mod replica;
mod storage;
mod tasks;
pub mod types;

pub use bootstrap::{IdentityError, RecoverError, Recovered, StartError, recover};
pub use config::{Config, PeerAddr, Timing};
pub use consensus::health::MemberFailure;
pub use consensus::member::Status;
pub use consensus::propose::ProposeError;
pub use consensus::proposer::Proposer;
pub use consensus::read_barrier::BarrierError;
pub use history::{Filter, History, HistoryError, Limits, Record};
pub use membership::admin::AdminError;
pub use metrics::RaftMetrics;
pub use network::Incoming;
pub use observer::Observer;
pub use replica::Replica;
pub use storage::log;

/// Bytes in lower-case hexadecimal, as ids are shown.
pub fn hex(id: &[u8]) -> String {
    ::hex::encode(id)
}
