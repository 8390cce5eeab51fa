//! One node of a local cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::error::DevError;
use super::exit::NodeExit;
use super::layout::NodeFolder;
use super::process::Process;
use super::status::{self, Status};
use crate::config::{Addresses, NodeConfig};

/// One node of a local cluster: its folder, and its process while it runs.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    folder: PathBuf,
    config: NodeConfig,
    process: Mutex<Option<Arc<Process>>>,
    exits: mpsc::Sender<NodeExit>,
}

impl Node {
    pub(super) fn new(binary: PathBuf, folder: &NodeFolder, exits: mpsc::Sender<NodeExit>) -> Self {
        let NodeFolder { folder, config } = folder;
        Node { binary, folder: folder.clone(), config: config.clone(), process: Mutex::new(None), exits }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.cluster.name
    }

    /// The addresses that clients and other nodes dial.
    pub fn addresses(&self) -> Addresses {
        self.config.addresses()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that gets its stdout and stderr.
    pub fn log(&self) -> PathBuf {
        self.folder.join("limes.log")
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process().and_then(|process| process.pid())
    }

    /// Its own view of the cluster; `None` if it does not answer.
    pub async fn status(&self) -> Option<Status> {
        status::query(&self.addresses().metrics).await
    }

    /// Starts its process.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&self) -> Result<(), DevError> {
        let mut slot = self.process.lock();
        if slot.as_ref().is_some_and(|process| process.pid().is_some()) {
            return Err(DevError::Running(self.name().to_owned()));
        }
        *slot = Some(Process::spawn(&self.binary, self.name(), &self.folder, self.exits.clone())?);
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<(), DevError> {
        let sent = self.process().is_some_and(|process| process.signal(signal));
        if sent { Ok(()) } else { Err(DevError::NotRunning(self.name().to_owned())) }
    }

    /// Waits until a SIGSTOP has stopped its process; returns at once if it does not run.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn stopped(&self) {
        let process = self.process();
        if let Some(process) = process {
            process.stopped().await;
        }
    }

    /// Waits until its process has exited; returns at once if it does not run.
    pub async fn ended(&self) {
        let process = self.process();
        if let Some(process) = process {
            process.ended().await;
        }
    }

    fn process(&self) -> Option<Arc<Process>> {
        self.process.lock().clone()
    }
}
