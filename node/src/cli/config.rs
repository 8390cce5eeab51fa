//! `limes config default | check FILE | import FILE`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::Failure;
use crate::config::{Loaded, NodeConfig};

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print a limes.yaml with every setting, its default and what it means.
    Default,
    /// Say whether a file could be served, and everything that is wrong with it if not.
    Check {
        /// A limes.yaml or frontier.yaml.
        file: PathBuf,
    },
    /// Print the limes.yaml that means the same as a frontier.yaml.
    Import {
        /// A frontier.yaml.
        file: PathBuf,
    },
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Default => print(&NodeConfig::default_file()),
        Command::Check { file } => {
            warn(&NodeConfig::load(&file)?);
            print(&format!("{}: ok\n", file.display()))
        }
        Command::Import { file } => import(&file),
    }
}

/// Only what the file says counts here, so the environment is left out.
fn import(file: &Path) -> Result<(), Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let loaded = NodeConfig::from_yaml(&name, &text, [])?;
    warn(&loaded);
    print(&format!(
        "# limes.yaml, from {name}; what is not here has its default.\n\n{}",
        loaded.config.to_file()
    ))
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        eprintln!("limes: warning: {warning}");
    }
}

/// A reader that has seen enough, as `| head`, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
