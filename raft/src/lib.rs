//! Replicates routing events through Raft and serves consistent reads.
//!
//! [`Replica`] is one member: it finds or founds its cluster, keeps the log, applies committed
//! batches to the tables and reports each to an [`Observer`]. It knows nothing of sockets of edges
//! and services.

mod aside;
mod barrier;
mod bootstrap;
mod change;
mod disk;
mod door;
mod encode;
mod history;
mod identity;
mod known;
pub mod log;
mod machine;
mod member;
mod membership;
mod metrics;
mod network;
mod observer;
mod proposer;
mod quorum;
mod recover;
mod replica;
mod settings;
mod snapshot;
mod standing;
mod tasks;
pub mod types;
mod upkeep;

pub use barrier::BarrierError;
pub use change::ChangeError;
pub use history::{Filter, History, HistoryError, Limits, Record};
pub use identity::hex;
pub use member::Status;
pub use metrics::RaftMetrics;
pub use network::Incoming;
pub use observer::Observer;
pub use proposer::{ProposeError, Proposer};
pub use recover::{RecoverError, Recovered, recover};
pub use replica::{Replica, StartError};
pub use settings::{Config, PeerAddr, Timing};
