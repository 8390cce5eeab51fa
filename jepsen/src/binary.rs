//! The node binary under test.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// The given binary; else that of this workspace, after a release build that brings it up to date.
///
/// # Errors
/// The binary does not exist, or does not build.
pub fn find(given: Option<PathBuf>) -> Result<PathBuf, Error> {
    if let Some(binary) = given {
        return if binary.is_file() { Ok(binary) } else { Err(Error::NoBinary(binary)) };
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(&workspace).args([
        "build",
        "--release",
        "--locked",
        "-p",
        "limes-node",
        "--bin",
        "limes",
    ]);
    // Cargo set these for the build of this program; they would make the other build start afresh.
    let is_own = |key: &str| key.starts_with("CARGO_PKG_") || key.starts_with("CARGO_MANIFEST_");
    for (key, _) in std::env::vars_os().filter(|(key, _)| is_own(&key.to_string_lossy())) {
        build.env_remove(key);
    }
    if !build.status()?.success() {
        return Err(Error::Build);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let binary = target.join("release/limes");
    Ok(binary
        .canonicalize()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", binary.display())))?)
}
