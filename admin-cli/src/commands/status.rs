//! `limesctl status`.

use limes_api::v1::{Node, StatusRequest};

use crate::client::connect;
use crate::context::Context;
use crate::error::Error;
use crate::output;

pub(super) async fn run(context: &Context) -> Result<(), Error> {
    let request = StatusRequest { local: context.local };
    let status = connect(context).await?.status(request).await?.into_inner();
    if context.json {
        return output::json(&status);
    }
    let leader = if status.leader.is_empty() { "unknown" } else { &status.leader };
    output::print(&format!(
        "cluster {} revision {} leader {leader} term {}, as {} sees it{}",
        status.cluster,
        status.revision,
        status.term,
        status.asked,
        if status.ready { "" } else { " (which is not ready)" }
    ))?;
    let columns =
        ["NODE", "NUMBER", "ROLE", "STATE", "EDGES", "SERVICES", "EPOCH", "MESH", "EDGES AT", "SERVICES AT"];
    output::table(&columns, status.nodes.iter().map(row))
}

fn row(node: &Node) -> [String; 10] {
    let state = match (node.up, node.draining) {
        (false, _) => "down",
        (true, true) => "draining",
        (true, false) => "up",
    };
    [
        node.name.clone(),
        node.number.to_string(),
        if node.voter { "voter" } else { "learner" }.to_owned(),
        state.to_owned(),
        node.edges.to_string(),
        node.services.to_string(),
        node.epoch.to_string(),
        node.mesh_addr.clone(),
        node.edges_addr.clone(),
        node.services_addr.clone(),
    ]
}
