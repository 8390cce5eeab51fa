//! `limes config default | check FILE | import FILE`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::error::CliError;
use crate::config::{Loaded, NodeConfig};

/// The verbs of `limes config`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a limes.yaml with every setting, its default and its meaning.
    Default,
    /// Check a file and print everything that is wrong with it.
    Check {
        /// A limes.yaml or frontier.yaml.
        file: PathBuf,
    },
    /// Print the limes.yaml that has the same effect as a frontier.yaml.
    Import {
        /// A frontier.yaml.
        file: PathBuf,
    },
}

pub(super) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Default => print(&NodeConfig::default_file()),
        Command::Check { file } => {
            warn(&NodeConfig::load(&file)?);
            print(&format!("{}: ok\n", file.display()))
        }
        Command::Import { file } => import(&file),
    }
}

/// Converts the file alone: the environment is not part of it.
fn import(file: &Path) -> Result<(), CliError> {
    let name = file.display().to_string();
    let text =
        std::fs::read_to_string(file).map_err(|source| CliError::Import { path: file.to_owned(), source })?;
    let loaded = NodeConfig::from_yaml(&name, &text, [])?;
    warn(&loaded);
    print(&format!(
        "# limes.yaml, from {name}; settings that are not listed have their defaults.\n\n{}",
        loaded.config.to_file()
    ))
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        eprintln!("limes: warning: {warning}");
    }
}

/// Writes to stdout. A reader that closes early, as `| head` does, is not an error.
fn print(text: &str) -> Result<(), CliError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
