//! Clients of the geminio protocol: Go programs with each other and with native clients, and hand-written
//! packets.

mod leaving;
mod malformed;
mod native;
mod passthrough;
mod peer;
mod slow;
mod takeover;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::support::program::Program;
use crate::support::{Bed, PATIENCE};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// When set, tests that need Go fail where it is missing; otherwise they are skipped there.
const REQUIRED: &str = "TEST_GO";
/// How long the Go program may take to build, with an empty cache.
const BUILD: Duration = Duration::from_secs(600);

/// The Go program, built once for all tests, or why it could not be built.
static GO_PROGRAM: OnceCell<Result<(TempDir, PathBuf), String>> = OnceCell::const_new();

/// The path of the Go program; `None` without Go, in which case the test prints that it is skipped.
async fn go_program(test: &str) -> Option<&'static Path> {
    match GO_PROGRAM.get_or_init(build).await {
        Ok((_, program)) => Some(program),
        Err(failure) => {
            assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, but: {failure}");
            eprintln!("SKIPPED: {test}: {failure}");
            None
        }
    }
}

async fn build() -> Result<(TempDir, PathBuf), String> {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("geminio");
    let build = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/go"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(BUILD, build).await {
        Ok(Ok(output)) if output.status.success() => Ok((dir, program)),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Ok(Err(error)) => Err(format!("go: {error}")),
        Err(_) => Err(format!("go build did not end within {BUILD:?}")),
    }
}

/// Starts a verb of the Go program with the addresses of these nodes.
fn go(program: &Path, verb: &str, bed: &Bed, nodes: &[usize]) -> Program {
    let mut command = Command::new(program);
    command.arg(verb).args(nodes.iter().flat_map(|node| [bed.edges(*node), bed.services(*node)]));
    Program::start(&mut command)
}

/// Runs checks of the Go program to their end.
async fn go_checks(program: &Path, verb: &str, bed: &Bed) {
    let lines = go(program, verb, bed, &[1, 2, 3]).finish_within(PATIENCE * 2).await;
    lines.iter().for_each(|line| println!("{line}"));
}

#[tokio::test]
async fn go_clients_work_with_each_other_and_with_native_clients() {
    let (bed, program) = tokio::join!(Bed::start(3), go_program("Go clients"));
    let Some(program) = program else { return };
    // Independent of each other, so at the same time.
    let native = timeout(PATIENCE * 2, native::go_and_native_clients_work_together(&bed, program));
    let (native, ()) = tokio::join!(native, go_checks(program, "checks", &bed));
    native.expect("the native clients end");
    go_checks(program, "alone", &bed).await;
}
