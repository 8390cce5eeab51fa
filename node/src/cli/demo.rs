//! `limes demo`.

use super::{Failure, runtime};

pub(super) fn run() -> Result<(), Failure> {
    super::log::quiet();
    let binary = std::env::current_exe()?;
    runtime()?.block_on(crate::demo::run(binary))?;
    Ok(())
}
