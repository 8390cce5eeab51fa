//! Why the demo cannot show something.

use std::io;
use std::path::PathBuf;
use std::string::FromUtf8Error;

use limes_sdk::{CallError, ConnectError};
use tokio::time::error::Elapsed;

use crate::dev::DevError;

/// What did not happen, or why it cannot be shown; one line.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The local cluster failed.
    #[error(transparent)]
    Cluster(#[from] DevError),
    /// The edge or the service cannot connect.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call, message or stream failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A socket, a stream or a file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A step took too long.
    #[error("a step did not finish in time")]
    Timeout(#[from] Elapsed),
    /// The head of the HTTP answer is not UTF-8.
    #[error("the head of the HTTP answer is not text: {0}")]
    Text(#[from] FromUtf8Error),
    /// The client was closed meanwhile.
    #[error("the {0} was closed")]
    Closed(&'static str),
    /// The cluster does not look as it should.
    #[error("{0}")]
    Cast(&'static str),
    /// Something that the demo shows did not happen.
    #[error("did not happen: {0}")]
    NotObserved(&'static str),
    /// The user pressed Ctrl-C.
    #[error("stopped by Ctrl-C")]
    Interrupted,
    /// Any of the others, and where the logs are.
    #[error("{source} (logs are kept in {dir})", dir = dir.display())]
    Logged {
        /// Why the demo failed.
        source: Box<DemoError>,
        /// The folder of the cluster.
        dir: PathBuf,
    },
}

/// Checks a claim of the demo.
///
/// # Errors
/// [`DemoError::NotObserved`]: it does not hold.
pub(super) fn expect(claim: &'static str, holds: bool) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError::NotObserved(claim)) }
}
