//! One child process.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::error::DevError;

/// How much of a log is looked at for its last line.
const TAIL: u64 = 8 << 10;

/// A child that ended.
#[derive(Debug, Clone)]
pub struct Death {
    /// The node's name.
    pub node: String,
    /// The process that it was.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// The last line of its log.
    pub last_words: String,
    pub(super) config: PathBuf,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Death { node, pid, status, last_words, config } = self;
        write!(
            f,
            "{node} (process {pid}) ended, {status}; `limes serve --config {}` brings it back",
            config.display()
        )?;
        if last_words.is_empty() { Ok(()) } else { write!(f, "; its log ends: {last_words}") }
    }
}

/// A child process. A task of its own waits for its end.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    ended: watch::Receiver<bool>,
}

impl Process {
    /// Starts `binary serve` in a node's folder and tells `deaths` when it has ended.
    pub(super) fn spawn(
        binary: &Path,
        name: &str,
        folder: &Path,
        deaths: mpsc::Sender<Death>,
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
        // Ctrl-C in the terminal is for the supervisor, which ends its children in good order.
        command.process_group(0);
        // Settings for one node in our environment are not meant for all of them.
        let ours = std::env::vars_os().map(|(key, _)| key);
        for key in ours.filter(|key| key.to_string_lossy().starts_with("LIMES_") && key != "LIMES_LOG") {
            command.env_remove(key);
        }
        let child = command.spawn().map_err(DevError::file("cannot start", binary))?;
        let pid = child.id().unwrap_or_default();
        let (end, ended) = watch::channel(false);
        tokio::spawn(mourn(child, name.to_owned(), pid, config, end, deaths));
        Ok(Arc::new(Process { pid, ended }))
    }

    /// The process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        (!*self.ended.borrow()).then_some(self.pid)
    }

    /// Sends a signal, unless it has ended; whether it was sent.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // A sender that is gone has ended too.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// Waits for a child and says that it ended. Owns the pipe whose end tells the child that this
/// process is gone.
async fn mourn(
    mut child: Child,
    node: String,
    pid: u32,
    config: PathBuf,
    end: watch::Sender<bool>,
    deaths: mpsc::Sender<Death>,
) {
    let pipe = child.stdin.take();
    let status = child.wait().await;
    drop(pipe);
    let folder = config.parent().unwrap_or(Path::new(""));
    forget_pid(&folder.join("limes.pid"), pid);
    let last_words = last_line(&folder.join("limes.log"));
    end.send_replace(true);
    if let Ok(status) = status {
        // Nobody reads them in most tests: the first ones are enough.
        let _ = deaths.try_send(Death { node, pid, status, last_words, config });
    }
}

/// A killed process leaves its pid file behind.
fn forget_pid(file: &Path, pid: u32) {
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
