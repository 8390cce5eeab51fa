//! The child process of a node.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::error::DevError;
use super::exit::NodeExit;

/// Bytes at the end of a log that are searched for its last line.
const TAIL: u64 = 8 << 10;
/// Pause between two looks at a process that is about to stop.
const STOP_PAUSE: Duration = Duration::from_millis(2);

/// A child process. A task waits for its exit.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    ended: watch::Receiver<bool>,
}

impl Process {
    /// Starts `binary serve` with the settings of a node's folder; sends its exit to `exits`.
    ///
    /// # Errors
    /// The log cannot be opened, or the process cannot be started.
    pub(super) fn spawn(
        binary: &Path,
        name: &str,
        folder: &Path,
        exits: mpsc::Sender<NodeExit>,
    ) -> Result<Arc<Self>, DevError> {
        let config = folder.join("limes.yaml");
        let log = folder.join("limes.log");
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(DevError::file("cannot open", &log))?;
        let err = out.try_clone().map_err(DevError::file("cannot open", &log))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config).arg("--exit-on-stdin-eof");
        command.stdin(Stdio::piped()).stdout(out).stderr(err).kill_on_drop(true);
        // Ctrl-C in the terminal signals this process only, which then terminates its children.
        command.process_group(0);
        // Variables that set this process up must not override the settings of every node.
        let ours = std::env::vars_os().map(|(key, _)| key);
        for key in ours.filter(|key| key.to_string_lossy().starts_with("LIMES_") && key != "LIMES_LOG") {
            command.env_remove(key);
        }
        let child = command.spawn().map_err(DevError::file("cannot start", binary))?;
        let pid = child.id().unwrap_or_default();
        let (end, ended) = watch::channel(false);
        tokio::spawn(wait_for_exit(child, name.to_owned(), pid, config, end, exits));
        Ok(Arc::new(Process { pid, ended }))
    }

    /// The process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        (!*self.ended.borrow()).then_some(self.pid)
    }

    /// Sends a signal unless the process has exited; returns whether it was sent.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }

    /// Waits until a SIGSTOP has stopped all its threads, or it has exited. The signal takes effect when
    /// one thread receives it; until then the others run on.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn stopped(&self) {
        while self.pid().is_some_and(|pid| !is_stopped(pid)) {
            sleep(STOP_PAUSE).await;
        }
    }

    /// Waits until it has exited.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // The task drops the sender only after the exit.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// Waits for a child and reports its exit. Holds the pipe whose closing tells the child that this
/// process is gone.
async fn wait_for_exit(
    mut child: Child,
    node: String,
    pid: u32,
    config: PathBuf,
    end: watch::Sender<bool>,
    exits: mpsc::Sender<NodeExit>,
) {
    let pipe = child.stdin.take();
    let status = child.wait().await;
    drop(pipe);
    let folder = config.parent().unwrap_or(Path::new(""));
    remove_pid_file(&folder.join("limes.pid"), pid);
    let last_log_line = last_line(&folder.join("limes.log"));
    end.send_replace(true);
    if let Ok(status) = status {
        // Most tests never read the exits: those beyond the channel's capacity are dropped.
        let _ = exits.try_send(NodeExit { node, pid, status, last_log_line, config });
    }
}

/// Removes the pid file that a killed process leaves behind.
fn remove_pid_file(file: &Path, pid: u32) {
    if std::fs::read_to_string(file).is_ok_and(|text| text.trim() == pid.to_string()) {
        let _ = std::fs::remove_file(file);
    }
}

fn last_line(log: &Path) -> String {
    let tail = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = tail().unwrap_or_default();
    String::from_utf8_lossy(&tail)
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .to_owned()
}

/// Whether a child is stopped, all its threads included. Leaves its state for those who wait for its exit.
#[cfg(target_os = "linux")]
fn is_stopped(pid: u32) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let pid = i32::try_from(pid).map(Pid::from_raw);
    // A process that cannot be asked is not waited for.
    pid.is_ok_and(|pid| !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive)))
}

/// Not known on this system.
#[cfg(not(target_os = "linux"))]
fn is_stopped(_: u32) -> bool {
    true
}
