//! `limes` and `limes serve`: one node in this process.

use std::path::Path;

use tracing::warn;

use super::pid::PidFile;
use super::{Failure, runtime, stop};
use crate::config::{Loaded, NodeConfig};

/// One node with the embedded defaults.
pub(super) fn embedded() -> Result<(), Failure> {
    serve(NodeConfig::embedded()?, false)
}

/// One node with the settings of a file.
pub(super) fn file(config: &Path, exit_on_stdin_eof: bool) -> Result<(), Failure> {
    serve(NodeConfig::load(config)?, exit_on_stdin_eof)
}

fn serve(loaded: Loaded, exit_on_stdin_eof: bool) -> Result<(), Failure> {
    let Loaded { config, warnings } = loaded;
    super::log::init(config.log.level)?;
    for warning in warnings {
        warn!("{warning}");
    }
    let _pid = config.daemon.pid_file.as_deref().map(PidFile::write).transpose()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let stop = stop::any(exit_on_stdin_eof)?;
        crate::run(config, stop).await?;
        Ok(())
    });
    // What still runs has had its time.
    runtime.shutdown_background();
    outcome
}
