//! `limes` and `limes serve`: runs one node in this process.

use std::path::Path;

use tracing::warn;

use super::error::CliError;
use super::pid::PidFile;
use super::runtime::runtime;
use super::{log, stop};
use crate::config::{Loaded, NodeConfig};

/// Runs a node with the embedded defaults.
pub(super) fn embedded() -> Result<(), CliError> {
    serve(NodeConfig::embedded()?, false)
}

/// Runs a node with the settings of a file.
pub(super) fn file(config: &Path, exit_on_stdin_eof: bool) -> Result<(), CliError> {
    serve(NodeConfig::load(config)?, exit_on_stdin_eof)
}

fn serve(loaded: Loaded, exit_on_stdin_eof: bool) -> Result<(), CliError> {
    let Loaded { config, warnings } = loaded;
    log::init(config.log.level)?;
    for warning in warnings {
        warn!("{warning}");
    }
    let _pid = config.daemon.pid_file.as_deref().map(PidFile::write).transpose()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let stop = stop::any(exit_on_stdin_eof)?;
        crate::server::run(config, stop).await?;
        Ok(())
    });
    // The drain has given every task its time; the rest is aborted.
    runtime.shutdown_background();
    outcome
}
