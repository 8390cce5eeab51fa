//! `limes demo`.

use super::error::CliError;
use super::log;
use super::runtime::runtime;

pub(super) fn run() -> Result<(), CliError> {
    log::quiet();
    let binary = std::env::current_exe()?;
    runtime()?.block_on(crate::demo::run(binary))?;
    Ok(())
}
