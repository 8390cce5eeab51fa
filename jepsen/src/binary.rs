//! The gateway that is to be tested.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The given binary, else the one of this workspace, built in release if it is not up to date.
///
/// # Errors
/// It is not there, or does not build.
pub fn find(given: Option<PathBuf>) -> io::Result<PathBuf> {
    if let Some(binary) = given {
        return if binary.is_file() {
            Ok(binary)
        } else {
            Err(io::Error::other(format!("there is no {}", binary.display())))
        };
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
    // What this run was told about its own build is not meant for that one.
    let ours = |key: &str| key.starts_with("CARGO_PKG_") || key.starts_with("CARGO_MANIFEST_");
    std::env::vars_os().map(|(key, _)| key).filter(|key| ours(&key.to_string_lossy())).for_each(|key| {
        build.env_remove(key);
    });
    if !build.status()?.success() {
        return Err(io::Error::other("the gateway does not build; name one with --binary"));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let binary = target.join("release/limes");
    binary.canonicalize().map_err(|error| io::Error::other(format!("{}: {error}", binary.display())))
}
