//! The process id file.

use std::path::{Path, PathBuf};

use super::error::CliError;

/// A file that holds the process id. Dropping it removes the file, unless another process has overwritten it.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file.
    ///
    /// # Errors
    /// [`CliError::PidFile`].
    pub(super) fn write(path: &Path) -> Result<Self, CliError> {
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|source| CliError::PidFile { path: path.to_owned(), source })?;
        Ok(PidFile(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        if std::fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == own) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
