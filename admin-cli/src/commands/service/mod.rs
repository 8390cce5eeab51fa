//! `limesctl service ...`.

mod list;

use clap::Subcommand;

use crate::Context;
use crate::client::Error;

/// What to do with services.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All that are connected, by id.
    List {
        /// Only those at this node; 3 is short for node-3.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
    },
}

impl Command {
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Command::List { node } => list::run(context, node).await,
        }
    }
}
