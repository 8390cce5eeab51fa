//! The exit of a child process.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

/// The exit of a node's process.
#[derive(Debug, Clone)]
pub struct NodeExit {
    /// The node's name.
    pub node: String,
    /// The id of the process.
    pub pid: u32,
    /// Its exit status.
    pub status: ExitStatus,
    /// The last line of its log.
    pub last_log_line: String,
    pub(super) config: PathBuf,
}

impl fmt::Display for NodeExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeExit { node, pid, status, last_log_line, config } = self;
        write!(
            f,
            "{node} (process {pid}) ended, {status}; `limes serve --config {}` brings it back",
            config.display()
        )?;
        if last_log_line.is_empty() { Ok(()) } else { write!(f, "; its log ends: {last_log_line}") }
    }
}
