//! Child processes whose output becomes part of the message of a failing test.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::PATIENCE;

/// Bytes of a program's output that are kept for the failure message.
const TAIL_MAX: usize = 64 << 10;
/// Bytes of one line; a longer one is split.
const LINE_MAX: u64 = 4 << 10;
/// How long a failing test waits for a program that is about to end, and for the rest of its output.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// Bytes of each node's log that a failing test prints.
const LOG_MAX: usize = 16 << 10;

/// A child process that ends with the test.
///
/// Threads read its stdout and stderr to their ends, so that it never blocks on a full pipe and never
/// writes to a closed one. The last [`TAIL_MAX`] bytes of both are printed when the test fails.
pub(crate) struct Program {
    command: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: UnboundedReceiver<String>,
    tail: Arc<Mutex<Tail>>,
    /// Disconnected when the thread of that pipe has ended.
    drained: [Receiver<()>; 2],
}

impl Program {
    /// Starts a program with pipes for stdin, stdout and stderr.
    pub(crate) fn start(command: &mut Command) -> Program {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let tail = Arc::<Mutex<Tail>>::default();
        let (to_test, lines) = unbounded_channel();
        let stdout = child.stdout.take().unwrap().into_owned_fd().unwrap();
        let stderr = child.stderr.take().unwrap().into_owned_fd().unwrap();
        let drained = [drain(stdout, "stdout", &tail, Some(to_test)), drain(stderr, "stderr", &tail, None)];
        let command = format!("{:?}", command.as_std());
        Program { command, input: child.stdin.take(), child, lines, tail, drained }
    }

    /// The process id; panics if the program has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the program runs")
    }

    /// The next line of stdout; `None` at its end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        match timeout(PATIENCE, self.lines.recv()).await {
            Ok(line) => line,
            Err(_) => panic!("no line within {PATIENCE:?} from {}", self.report()),
        }
    }

    /// Skips to a line of stdout that begins with `begin` and returns the rest of it.
    pub(crate) async fn until(&mut self, begin: &str) -> String {
        while let Some(line) = self.line().await {
            if let Some(rest) = line.strip_prefix(begin) {
                return rest.to_owned();
            }
        }
        panic!("no line begins with {begin:?}; {}", self.report());
    }

    /// Writes a line to stdin.
    pub(crate) async fn write(&mut self, line: &str) {
        let input = self.input.as_mut().expect("stdin is open");
        let written = input.write_all(format!("{line}\n").as_bytes()).await;
        written.unwrap_or_else(|error| panic!("cannot write to {}: {error}", self.report()));
    }

    /// Closes stdin and waits for the program's end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.ended_within(PATIENCE).await
    }

    async fn ended_within(&mut self, time: Duration) -> ExitStatus {
        self.input = None;
        match timeout(time, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("not ended within {time:?}: {}", self.report()),
        }
    }

    /// Closes stdin, waits for a successful end, and returns the lines of stdout that were not read yet.
    pub(crate) async fn finish(&mut self) -> Vec<String> {
        self.finish_within(PATIENCE).await
    }

    /// As [`Program::finish`], for a program that may take longer.
    pub(crate) async fn finish_within(&mut self, time: Duration) -> Vec<String> {
        let status = self.ended_within(time).await;
        assert!(status.success(), "{}", self.report());
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }

    /// The command, how it ended (or that it runs) and the end of its output.
    fn report(&mut self) -> String {
        let until = Instant::now() + LAST_OUTPUT;
        let mut status = self.child.try_wait();
        while matches!(status, Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
            status = self.child.try_wait();
        }
        let state = match status {
            Ok(Some(status)) => {
                self.wait_drained(until);
                format!("ended, {status}")
            }
            Ok(None) => "still runs".to_owned(),
            Err(error) => format!("state unknown, {error}"),
        };
        format!("{}: {state}; its output ends:\n{}", self.command, self.tail.lock().text())
    }

    /// Waits until both pipes are read to their ends, at most until then.
    fn wait_drained(&self, until: Instant) {
        for drained in &self.drained {
            let _ = drained.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}", self.report());
        }
    }
}

/// The newest lines of both pipes, at most [`TAIL_MAX`] bytes.
#[derive(Default)]
struct Tail {
    lines: VecDeque<(&'static str, String)>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, pipe: &'static str, line: String) {
        self.bytes += line.len();
        self.lines.push_back((pipe, line));
        while self.bytes > TAIL_MAX {
            let Some((_, oldest)) = self.lines.pop_front() else { return };
            self.bytes -= oldest.len();
        }
    }

    fn text(&self) -> String {
        self.lines.iter().fold(String::new(), |mut text, (pipe, line)| {
            let _ = writeln!(text, "{pipe}: {line}");
            text
        })
    }
}

/// Reads a pipe to its end in a thread, which holds the sender of the returned channel until then.
fn drain(
    pipe: OwnedFd,
    name: &'static str,
    tail: &Arc<Mutex<Tail>>,
    lines: Option<UnboundedSender<String>>,
) -> Receiver<()> {
    let (running, drained) = sync_channel(0);
    let tail = tail.clone();
    std::thread::spawn(move || {
        let _running = running;
        let mut pipe = BufReader::new(File::from(pipe));
        let mut line = Vec::new();
        while matches!(pipe.by_ref().take(LINE_MAX).read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
            tail.lock().push(name, text.clone());
            // A test that reads no more lines has dropped the receiver.
            lines.as_ref().map(|lines| lines.send(text));
            line.clear();
        }
    });
    drained
}

/// Runs a program without input to its end and returns all of its output.
///
/// # Errors
/// The program cannot be started.
pub(crate) async fn output(command: &mut Command) -> io::Result<Output> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    match timeout(PATIENCE, output).await {
        Ok(output) => output,
        Err(_) => panic!("{command:?} did not end within {PATIENCE:?}"),
    }
}

/// Prints the end of each node's log when the test fails; holds the folder of the cluster.
pub(crate) struct LogsOnFailure(pub(crate) PathBuf);

impl Drop for LogsOnFailure {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let logs = (1..).map(|node| self.0.join(format!("node-{node}/limes.log")));
        for file in logs.take_while(|file| file.exists()) {
            let log = std::fs::read(&file).unwrap_or_default();
            let tail = &log[log.len().saturating_sub(LOG_MAX)..];
            eprintln!("--- {} ends:\n{}", file.display(), String::from_utf8_lossy(tail));
        }
    }
}

mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::start(Command::new("sh").args(["-c", script]))
    }

    #[tokio::test]
    async fn report_has_both_pipes_and_the_signal() {
        let mut program = shell("echo from stdout; echo from stderr >&2; kill -PIPE $$");
        program.ended().await;
        let report = program.report();
        for part in ["stdout: from stdout\n", "stderr: from stderr\n", "SIGPIPE"] {
            assert!(report.contains(part), "{part:?} is missing in {report}");
        }
    }

    #[tokio::test]
    async fn unread_output_does_not_block_the_program() {
        let mut program = shell("head -c 1000000 /dev/zero | tr '\\0' '\\n'; echo the end");
        let lines = program.finish().await;
        assert_eq!(lines.last().map(String::as_str), Some("the end"));
    }

    #[test]
    fn tail_keeps_the_newest_lines_within_its_bound() {
        let mut tail = Tail::default();
        for number in 0..TAIL_MAX {
            tail.push("stdout", number.to_string());
        }
        assert!(tail.bytes <= TAIL_MAX, "{} bytes are kept", tail.bytes);
        assert!(tail.text().ends_with(&format!("stdout: {}\n", TAIL_MAX - 1)));
    }
}
