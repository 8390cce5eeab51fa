//! Errors of a local cluster.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::exit::NodeExit;
use crate::config::ConfigError;

/// Why a local cluster cannot do what was asked, in one line.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// An operation on a file or folder of the layout failed.
    #[error("{what} {path}: {source}")]
    File {
        /// The operation, as `cannot open`.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A limes.yaml in the folder is invalid.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The folder holds another number of nodes than asked for.
    #[error("{dir} holds {found} nodes, not {asked}; leave --nodes out, or choose another folder")]
    Nodes {
        /// The folder.
        dir: PathBuf,
        /// How many it holds.
        found: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// The system has no free ports.
    #[error("no free ports: {0}")]
    Ports(io::Error),
    /// A node ended before the cluster was ready.
    #[error("{0}")]
    Exited(NodeExit),
    /// The node runs already; its name.
    #[error("{0} is running already")]
    Running(String),
    /// The node does not run; its name.
    #[error("{0} is not running")]
    NotRunning(String),
    /// The cluster is not ready in time.
    #[error("the cluster is not ready after {after:?}: {missing}")]
    NotReady {
        /// The time.
        after: Duration,
        /// What is missing.
        missing: Missing,
    },
}

/// What a cluster lacks to be ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A node is not ready.
    #[error("{node} is not ready (its log: {log})", log = log.display())]
    Readiness {
        /// Its name.
        node: String,
        /// Its log file.
        log: PathBuf,
    },
    /// No node runs.
    #[error("no node runs")]
    Nodes,
    /// The nodes name different leaders or voters, or none.
    #[error("the nodes do not agree on a leader")]
    Leader,
}

impl DevError {
    /// Names the operation and the file of an I/O error.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| DevError::File { what, path, source }
    }
}
