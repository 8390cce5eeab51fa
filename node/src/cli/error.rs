//! Why a command failed.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::demo::DemoError;
use crate::dev::DevError;
use crate::server::StartError;

/// Why a command failed: one line for the operator, or a list if a file has several problems.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The settings are invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node cannot start or go on.
    #[error(transparent)]
    Node(#[from] StartError),
    /// The local cluster cannot start or go on.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// Something that the demo shows did not happen.
    #[error(transparent)]
    Demo(#[from] DemoError),
    /// The data cannot become a new cluster.
    #[error(transparent)]
    Recover(#[from] limes_raft::RecoverError),
    /// The operator did not confirm.
    #[error("nothing was changed")]
    NotConfirmed,
    /// `LIMES_LOG` is not a filter.
    #[error("LIMES_LOG: {text:?} is not a log filter: {source}")]
    LogFilter {
        /// Its value.
        text: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process id cannot be written.
    #[error("daemon.pid_file: cannot write {path}: {source}", path = path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the reference cannot be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The terminal, a signal handler or the runtime failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
