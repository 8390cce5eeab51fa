//! `limesctl`: a cluster as its operators see it.
//!
//! Data goes to stdout, as a table or with `--json` as the API's own messages; everything else goes
//! to stderr. Exit status: 0 done, 1 it could not be done, 2 the command line makes no sense.

mod client;
mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// Look at a limes cluster. Any node answers for all of it.
#[derive(Debug, Parser)]
#[command(name = "limesctl", version)]
struct Cli {
    /// Control ports of nodes, tried in turn.
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:30010",
        env = "LIMES_ENDPOINT"
    )]
    endpoint: Vec<String>,
    /// Print JSON, one object on one line.
    #[arg(long, global = true)]
    json: bool,
    /// Read what the asked node holds, without asking the cluster: works without a quorum, may be old.
    #[arg(long, global = true)]
    local: bool,
    #[command(subcommand)]
    command: Command,
}

/// How a command is to be done.
struct Context {
    endpoints: Vec<String>,
    json: bool,
    local: bool,
}

fn main() -> ExitCode {
    let Cli { endpoint, json, local, command } = Cli::parse();
    let context = Context { endpoints: endpoint, json, local };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    match runtime.block_on(command.run(&context)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(text: &str) -> ExitCode {
    eprintln!("limesctl: {text}");
    ExitCode::FAILURE
}
