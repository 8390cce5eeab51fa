//! Data directories: copies and damage.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The paths of a directory's files, sorted.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Flips a bit in the first records of the log.
pub fn damage_log(dir: &Path) {
    let segment =
        files(&dir.join("log")).into_iter().find(|file| file.extension().is_some_and(|e| e == "seg"));
    flip(&segment.unwrap(), 200);
}

/// Flips a bit of a file.
pub fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// Copies a directory, as a backup program does.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if std::fs::copy(&from, &to).is_err() {
            // The file is gone meanwhile: it belongs to a running node.
        }
    }
}
