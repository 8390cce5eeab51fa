//! `limesctl edge ...`.

mod list;

use clap::Subcommand;

use crate::context::Context;
use crate::error::Error;

/// The verb for edges.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the connected edges by id.
    List {
        /// Only those of this node; 3 is short for node-3.
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
