//! Why a run proves nothing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use limes_sdk::{CallError, ConnectError};
use limes_wire::codec::DecodeError;
use tokio::task::JoinError;

/// Why a run proves nothing: the harness, not the cluster, failed, or the cluster gave nothing to judge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The binary under test does not exist.
    #[error("there is no {}", .0.display())]
    NoBinary(PathBuf),
    /// The binary under test does not compile.
    #[error("the node does not build; name a binary with --binary")]
    Build,
    /// Something did not happen in time.
    #[error("{what} within {limit:?}")]
    Timeout {
        /// What did not happen, as the beginning of a sentence: "no welcome".
        what: String,
        /// How long the harness waited.
        limit: Duration,
    },
    /// The process ended before it was ready.
    #[error("limes dev ended before the cluster was ready")]
    DevEnded,
    /// A node's process has ended.
    #[error("node-{0} has ended")]
    NodeEnded(usize),
    /// A file of a node does not hold what it should.
    #[error("{} does not hold {what}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The fault needs proxies between the nodes.
    #[error("the cluster was started without a net")]
    NoNet,
    /// Not enough free ports were found.
    #[error("no free ports")]
    NoPorts,
    /// The gateway refused a session, or the connection broke before the welcome.
    #[error("refused, or disconnected before the welcome")]
    NotWelcomed,
    /// A client could not connect.
    #[error("a client could not connect: {0}")]
    Connect(#[from] ConnectError),
    /// A request that the run depends on failed.
    #[error("a request failed: {0}")]
    Request(#[from] CallError),
    /// A frame could not be decoded.
    #[error("a frame could not be decoded: {0}")]
    Decode(#[from] DecodeError),
    /// A node's control port could not be reached.
    #[error("no connection to a control port: {0}")]
    Control(#[from] tonic::transport::Error),
    /// A node's control port answered with an error.
    #[error("a control port answered: {0}")]
    Status(#[from] tonic::Status),
    /// A node's status page could not be read.
    #[error("no status page: {0}")]
    Http(String),
    /// A watch did not give all changes.
    #[error("a watch is incomplete: {0}")]
    Watch(&'static str),
    /// A task of the harness panicked.
    #[error("a task of the harness failed: {0}")]
    Task(#[from] JoinError),
    /// The run did nothing that could be judged.
    #[error("the run proves nothing: {0}")]
    NothingHappened(&'static str),
}

impl Error {
    /// `what` did not happen within `limit`.
    pub(crate) fn timeout(what: impl Into<String>, limit: Duration) -> Self {
        Error::Timeout { what: what.into(), limit }
    }
}
