//! Replicates routing events through Raft and serves consistent reads.
//!
//! [`Replica`] is one member: it finds or founds its cluster, keeps the log, applies committed
//! batches to the tables and reports each to an [`Observer`]. It knows nothing of sockets of edges
//! and services.

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

pub use bootstrap::recover::{RecoverError, Recovered, recover};
pub use config::{Config, PeerAddr, Timing};
pub use consensus::member::Status;
pub use consensus::proposer::{ProposeError, Proposer};
pub use consensus::read_barrier::BarrierError;
pub use history::{Filter, History, HistoryError, Limits, Record};
pub use membership::admin::ChangeError;
pub use metrics::RaftMetrics;
pub use network::Incoming;
pub use observer::Observer;
pub use replica::{Replica, StartError};
pub use storage::identity::hex;
pub use storage::log;
