//! The verbs of the command line; each noun is a file.

mod bench;
mod edge;
mod names;
mod service;
mod status;
mod watch;

use clap::Subcommand;

use crate::context::Context;
use crate::error::Error;

/// The verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the members, the leader, and what each node holds.
    Status,
    /// Print changes line by line until stopped: first the present state, unless --from is given.
    Watch(watch::Options),
    /// Put load on the cluster and report what it costs.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Edges of the whole cluster.
    #[command(subcommand)]
    Edge(edge::Command),
    /// Services of the whole cluster.
    #[command(subcommand)]
    Service(service::Command),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Command::Status => status::run(context).await,
            Command::Watch(options) => watch::run(context, options).await,
            Command::Bench(command) => command.run(context).await,
            Command::Edge(command) => command.run(context).await,
            Command::Service(command) => command.run(context).await,
        }
    }
}
