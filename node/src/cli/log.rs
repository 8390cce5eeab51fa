//! Sets up logging to stderr; `LIMES_LOG` filters it.

use tracing_subscriber::EnvFilter;

use super::error::CliError;
use crate::config::Level;

/// Logs from `level` up, or by the filter in `LIMES_LOG`.
///
/// # Errors
/// `LIMES_LOG` is not a filter.
pub(super) fn init(level: Level) -> Result<(), CliError> {
    let filter = match std::env::var("LIMES_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).map_err(|source| CliError::LogFilter { text, source })?
        }
        // openraft logs each step at info and each unanswered heartbeat at warn. yamux logs each bad frame of
        // a hostile peer; the session counts and logs that peer once.
        _ => EnvFilter::new(format!("{},openraft=error,yamux=off", level.as_str())),
    };
    start(filter);
    Ok(())
}

/// Logs errors only, for commands that talk to a person.
pub(super) fn quiet() {
    start(EnvFilter::try_from_env("LIMES_LOG").unwrap_or_else(|_| EnvFilter::new("error")));
}

fn start(filter: EnvFilter) {
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    // A second set-up, as in tests, keeps the first.
    let _ = logs.try_init();
}
