//! `limesctl`: the command line for operators of a cluster.
//!
//! ```text
//!   limesctl VERB ──▶ commands ──▶ client ──gRPC limes.v1──▶ any node, for the whole cluster
//!                        │
//!                        ├──▶ output ──▶ stdout: a table, or JSON with --json
//!                        └──▶ bench  ──▶ edges and services of its own (limes-sdk)
//! ```
//!
//! Data goes to stdout, everything else to stderr. Exit status: 0 success, 1 failure, 2 wrong usage.
//!
//! # Layers
//! A module uses only those before it: `error`, `context`, (`client`, `output`), `commands`.

mod client;
mod commands;
mod context;
mod error;
mod output;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use context::Context;

/// Inspects a limes cluster. Any node answers for the whole cluster.
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
    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    json: bool,
    /// Read the asked node's own copy: works without a quorum, may be stale.
    #[arg(long, global = true)]
    local: bool,
    #[command(subcommand)]
    command: Command,
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
