//! Logs go to stderr; `LIMES_LOG` filters them.

use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::config::Level;

/// Logs from `level` up, or as `LIMES_LOG` says.
pub(super) fn init(level: Level) -> Result<(), Failure> {
    let filter = match std::env::var("LIMES_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| format!("LIMES_LOG: {text:?} is no log filter: {error}"))?,
        // openraft tells each of its steps at info, and each unanswered heartbeat at warn; yamux a line for each
        // frame of a hostile peer, whose connection is counted and told once by its session.
        _ => EnvFilter::new(format!("{},openraft=error,yamux=off", level.as_str())),
    };
    start(filter);
    Ok(())
}

/// Logs for commands that talk to a person: only what went wrong.
pub(super) fn quiet() {
    start(EnvFilter::try_from_env("LIMES_LOG").unwrap_or_else(|_| EnvFilter::new("error")));
}

fn start(filter: EnvFilter) {
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    // A second start, as in tests, keeps the first.
    let _ = logs.try_init();
}
