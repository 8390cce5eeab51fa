//! Replacing whole files atomically, and I/O errors that name their path.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Bytes written between two syncs of a large file.
const SYNC_BYTES: usize = 2 << 20;

/// Adds the path to an error; the error's kind stays the same.
pub(crate) fn with_path(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Replaces a file of a directory with the concatenation of `parts`, through a temporary file and a
/// rename. The new file is durable when this returns.
///
/// # Errors
/// The disk failed. The old file is still there then, or the new one.
pub(crate) fn replace(dir: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&fresh)?;
        // In small steps: the log shares the disk, and its syncs would wait for one large write-back.
        for piece in parts.iter().flat_map(|part| part.chunks(SYNC_BYTES)) {
            file.write_all(piece)?;
            if piece.len() == SYNC_BYTES {
                file.sync_data()?;
            }
        }
        file.sync_all()
    };
    write().map_err(with_path(&fresh))?;
    std::fs::rename(&fresh, dir.join(name)).map_err(with_path(&fresh))?;
    sync(dir)
}

/// Makes a file, or the names in a directory, durable.
///
/// # Errors
/// The disk failed.
pub(crate) fn sync(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(with_path(path))
}
