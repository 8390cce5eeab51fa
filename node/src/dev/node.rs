//! One node of a local cluster.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;
use tokio::sync::mpsc;

use super::error::DevError;
use super::layout::Place;
use super::process::{Death, Process};
use super::status::{self, Status};
use crate::config::{Addresses, NodeConfig};

/// One node of a local cluster: where it is, and its process if it runs.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    folder: PathBuf,
    config: NodeConfig,
    process: Mutex<Option<Arc<Process>>>,
    deaths: mpsc::Sender<Death>,
}

impl Node {
    pub(super) fn new(binary: PathBuf, place: &Place, deaths: mpsc::Sender<Death>) -> Self {
        let Place { folder, config } = place;
        Node { binary, folder: folder.clone(), config: config.clone(), process: Mutex::new(None), deaths }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.cluster.name
    }

    /// Where it can be dialled.
    pub fn addresses(&self) -> Addresses {
        self.config.addresses()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it writes to stdout and stderr.
    pub fn log(&self) -> PathBuf {
        self.folder.join("limes.log")
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process().and_then(|process| process.pid())
    }

    /// What it says about itself; nothing if it does not answer.
    pub async fn status(&self) -> Option<Status> {
        status::ask(&self.addresses().metrics).await
    }

    /// Starts its process.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&self) -> Result<(), DevError> {
        let mut slot = self.lock();
        if slot.as_ref().is_some_and(|process| process.pid().is_some()) {
            return Err(DevError::State(self.name().to_owned(), "is running already"));
        }
        *slot = Some(Process::spawn(&self.binary, self.name(), &self.folder, self.deaths.clone())?);
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<(), DevError> {
        let sent = self.process().is_some_and(|process| process.signal(signal));
        if sent { Ok(()) } else { Err(DevError::State(self.name().to_owned(), "is not running")) }
    }

    /// Waits for the end of its process, if it runs.
    pub async fn ended(&self) {
        let process = self.process();
        if let Some(process) = process {
            process.ended().await;
        }
    }

    fn process(&self) -> Option<Arc<Process>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Process>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
