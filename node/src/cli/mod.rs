//! The command line of `limes`. Errors of all commands become a line on stderr and exit code 1 in [`main`].

mod config;
mod demo;
mod dev;
mod error;
mod log;
mod pid;
mod recover;
mod runtime;
mod serve;
mod stop;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::dev::Ports;
use error::CliError;

/// A clustered gateway between edges and services. Without a command it runs one node with embedded
/// defaults and its data in ./limes-data.
#[derive(Debug, Parser)]
#[command(name = "limes", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node of a cluster.
    Serve {
        /// Its limes.yaml, or a frontier.yaml as it is.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Stop when stdin ends, which it does when the parent process is gone.
        #[arg(long, hide = true)]
        exit_on_stdin_eof: bool,
    },
    /// Run a cluster on this machine, one process per node, until Ctrl-C.
    Dev {
        /// How many nodes; default: those of the folder, else 3.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
        nodes: Option<u16>,
        /// Folder of their settings, data and logs; reused if it exists.
        #[arg(long, value_name = "DIR", default_value = "./limes-dev")]
        dir: PathBuf,
        /// `auto` takes free ports; otherwise node i has the usual ports + 100*(i-1).
        #[arg(long, value_enum, default_value_t = Ports::Fixed)]
        ports: Ports,
    },
    /// Make a new cluster from this node's data, when most nodes have lost theirs for good.
    Recover {
        /// Its limes.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
    /// Show a cluster at work: a call, a message and a stream across nodes, then kill the leader.
    Demo,
    /// Print, check or convert settings.
    #[command(subcommand)]
    Config(config::Command),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        None => serve::embedded(),
        Some(Command::Serve { config, exit_on_stdin_eof }) => serve::file(&config, exit_on_stdin_eof),
        Some(Command::Dev { nodes, dir, ports }) => dev::run(nodes.map(usize::from), dir, ports),
        Some(Command::Recover { config, yes }) => recover::run(&config, yes),
        Some(Command::Demo) => demo::run(),
        Some(Command::Config(command)) => config::run(command),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
