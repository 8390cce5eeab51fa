//! `limesctl service ...`: a variant and a function for each verb.

use clap::Subcommand;
use limes_api::v1::{ListServicesRequest, ServicePage};

use crate::client::{connect, next};
use crate::commands::names::node_name;
use crate::context::Context;
use crate::error::Error;
use crate::output;

/// The verb for services.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the connected services by id.
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
    let request = ListServicesRequest { local: context.local, node: node.map(node_name).unwrap_or_default() };
    let mut pages = connect(context).await?.list_services(request).await?.into_inner();
    let mut all = ServicePage::default();
    while let Some(page) = next(&mut pages).await? {
        all.revision = page.revision;
        all.services.extend(page.services);
    }
    if context.json {
        return output::json(&all);
    }
    let rows = all.services.into_iter().map(|service| {
        [
            service.id.to_string(),
            service.name,
            service.node,
            service.addr,
            service.methods.join(" "),
            service.topics.join(" "),
        ]
    });
    output::table(&["SERVICE", "NAME", "NODE", "ADDRESS", "METHODS", "TOPICS"], rows)
}
