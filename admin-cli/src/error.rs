//! Why a command failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use limes_sdk::{CallError, ConnectError};
use tokio::task::JoinError;
use tonic::{Code, Status};

/// Why a command failed, each in one line for the operator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// None of the endpoints accepted a connection.
    #[error("no node answers at {0}; check --endpoint, and that the control port is open")]
    Unreachable(String),
    /// An endpoint cannot be parsed.
    #[error("{0:?} is not HOST:PORT")]
    Endpoint(String),
    /// The node answered with an error.
    #[error("{}", describe(.0))]
    Refused(#[from] Status),
    /// The node sent nothing for this long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The node ended a watch that was not complete.
    #[error("the node ended the watch")]
    WatchEnded,
    /// Output could not be written.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    /// A message has no JSON form.
    #[error("cannot print: {0}")]
    Json(#[from] serde_json::Error),
    /// A client of the load generator did not connect.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request that the load depends on failed.
    #[error(transparent)]
    Request(#[from] CallError),
    /// A stream of the load broke.
    #[error("a stream broke: {0}")]
    Stream(io::Error),
    /// A task of the load generator panicked.
    #[error("the load generator failed: {0}")]
    Task(#[from] JoinError),
    /// Operations were still in flight this long after the end of the load.
    #[error("operations did not end within {0:?} of the load's end")]
    InFlight(Duration),
    /// No node has this name.
    #[error("no node {0}")]
    NoSuchNode(String),
    /// The folder was not made by `limes dev`.
    #[error("{} holds no cluster of `limes dev`", .0.display())]
    NoCluster(PathBuf),
    /// A node of the folder has no process.
    #[error("node-{number} of {} is not running", .dir.display())]
    NotRunning {
        /// The cluster's folder.
        dir: PathBuf,
        /// The node's number, from 1.
        number: u32,
    },
    /// A settings file cannot be parsed.
    #[error("{}: {error}", .file.display())]
    Settings {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        error: serde_norway::Error,
    },
    /// A settings file lacks the address of a listener.
    #[error("{}: {section}.listen.addr is missing", .file.display())]
    NoAddress {
        /// The file.
        file: PathBuf,
        /// The listener's section.
        section: &'static str,
    },
}

/// The node's message, and what the operator may try.
fn describe(status: &Status) -> String {
    match status.code() {
        Code::Unavailable => {
            format!("{}; --local shows what the node itself holds", status.message())
        }
        Code::Unimplemented => format!("this node does not know the command: {}", status.message()),
        _ => status.message().to_owned(),
    }
}
