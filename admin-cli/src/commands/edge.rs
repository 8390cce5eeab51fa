//! `limesctl edge ...`: a variant and a function for each verb.

use clap::Subcommand;
use limes_api::v1::{EdgePage, ListEdgesRequest};

use crate::client::{connect, next};
use crate::commands::names::node_name;
use crate::context::Context;
use crate::error::Error;
use crate::output;

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
            Command::List { node } => list(context, node).await,
        }
    }
}

async fn list(context: &Context, node: Option<String>) -> Result<(), Error> {
    let request = ListEdgesRequest { local: context.local, node: node.map(node_name).unwrap_or_default() };
    let mut pages = connect(context).await?.list_edges(request).await?.into_inner();
    let mut all = EdgePage::default();
    while let Some(page) = next(&mut pages).await? {
        all.revision = page.revision;
        all.edges.extend(page.edges);
    }
    if context.json {
        return output::json(&all);
    }
    let rows = all.edges.into_iter().map(|edge| {
        [edge.id.to_string(), edge.node, edge.addr, edge.incarnation, edge.meta.escape_debug().to_string()]
    });
    output::table(&["EDGE", "NODE", "ADDRESS", "INCARNATION", "META"], rows)
}
