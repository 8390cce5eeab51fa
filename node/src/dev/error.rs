//! Why a local cluster does not do what was asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::process::Death;
use crate::config::ConfigError;

/// Why a local cluster does not do what was asked, in one line.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A file or folder of the layout.
    #[error("{what} {path}: {source}")]
    File {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A limes.yaml in the folder.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The folder holds another number of nodes than asked for.
    #[error("{dir} holds {found} nodes, not {asked}; leave --nodes out, or choose another folder")]
    Nodes {
        /// The folder.
        dir: PathBuf,
        /// How many it holds.
        found: usize,
        /// How many were wanted.
        asked: usize,
    },
    /// No free ports.
    #[error("no free ports: {0}")]
    Ports(io::Error),
    /// A node ended before the cluster was ready.
    #[error("{0}")]
    Died(Death),
    /// A node is not running, or running already.
    #[error("{0} {1}")]
    State(String, &'static str),
    /// The time is over.
    #[error("the cluster is not ready after {after:?}: {missing}")]
    NotReady {
        /// The time.
        after: Duration,
        /// Who is missing.
        missing: String,
    },
}

impl DevError {
    /// Gives a failed operation on a file its name.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| DevError::File { what, path, source }
    }
}
