//! One file per verb.

mod bench;
mod edge;
mod service;
mod status;
mod watch;

use clap::Subcommand;

use crate::Context;
use crate::client::Error;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The members, who leads, and how much each holds.
    Status,
    /// What changes, line by line, until it is stopped: first the state, unless --from says where.
    Watch(watch::Options),
    /// Puts load on the cluster and says what it costs.
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

/// A node's name: `3` is short for `node-3`.
fn node_name(text: String) -> String {
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if number { format!("node-{text}") } else { text }
}
