//! The runtime that a command runs in.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A multi-threaded runtime.
///
/// # Errors
/// The system denies threads or descriptors.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
