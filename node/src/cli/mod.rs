//! The command line of `limes`: what it takes, and the one place where failures become an exit
//! code and a line on stderr.

mod config;
mod demo;
mod dev;
mod log;
mod pid;
mod recover;
mod serve;
mod stop;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::dev::Ports;

/// Why a command failed: one line for the operator, except that mistakes of a file are listed.
type Failure = Box<dyn Error + Send + Sync>;

/// A clustered gateway between edges and services. Without a command: one node with embedded
/// defaults, its data in ./limes-data.
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
        /// End when stdin does, as when the process that started this one dies.
        #[arg(long, hide = true)]
        exit_on_stdin_eof: bool,
    },
    /// Run a cluster on this machine, one process a node, until Ctrl-C.
    Dev {
        /// How many nodes; those that the folder has, else 3.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
        nodes: Option<u16>,
        /// Where they keep their settings, data and logs; used again if it exists.
        #[arg(long, value_name = "DIR", default_value = "./limes-dev")]
        dir: PathBuf,
        /// `auto` takes free ports; otherwise node i has the usual ports + 100*(i-1).
        #[arg(long, value_enum, default_value_t = Ports::Fixed)]
        ports: Ports,
    },
    /// Make a new cluster of one out of this node's data: when most nodes have lost theirs for good.
    Recover {
        /// Its limes.yaml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Watch a cluster at work: a call, a message and a stream across nodes, then the leader dies.
    Demo,
    /// Print, check or convert settings.
    #[command(subcommand)]
    Config(config::Command),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("limes: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => serve::embedded(),
        Some(Command::Serve { config, exit_on_stdin_eof }) => serve::file(&config, exit_on_stdin_eof),
        Some(Command::Dev { nodes, dir, ports }) => dev::run(nodes.map(usize::from), dir, ports),
        Some(Command::Recover { config, yes }) => recover::run(&config, yes),
        Some(Command::Demo) => demo::run(),
        Some(Command::Config(command)) => config::run(command),
    }
}

/// The runtime that a command works in.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
