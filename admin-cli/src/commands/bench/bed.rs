//! The clients of a load, and the nodes that they connect to.

use std::time::Duration;

use limes_sdk::{Edge, Service};
use tokio::task::JoinSet;

use super::nodes::{Nodes, Target};
use super::shape::Shape;
use crate::context::Context;
use crate::error::Error;

/// Time limit for a client of the load to connect.
pub(super) const CONNECT: Duration = Duration::from_secs(60);
/// Deadline of one request.
const REQUEST: Duration = Duration::from_secs(30);
/// Edges that connect at the same time.
const CONCURRENT_CONNECTS: usize = 64;

/// The nodes of the cluster, and the two that take the load.
pub(super) struct Bed {
    /// All nodes.
    pub(super) nodes: Nodes,
    /// The node that edges connect to.
    pub(super) edge_node: Target,
    /// The node that the service connects to.
    pub(super) service_node: Target,
}

impl Bed {
    /// Finds the nodes that the options name.
    pub(super) async fn find(context: &Context, shape: &Shape) -> Result<Bed, Error> {
        let nodes = Nodes::find(context, shape.dir.as_deref()).await?;
        let edge_node = nodes.named(shape.edge_node.as_deref())?;
        let service_node = match &shape.service_node {
            Some(name) => nodes.named(Some(name))?,
            None => edge_node.clone(),
        };
        Ok(Bed { nodes, edge_node, service_node })
    }

    /// Connects a service of this name.
    pub(super) async fn service(&self, name: &str) -> Result<Service, Error> {
        let service = Service::builder(name).address(&self.service_node.services).connect_timeout(CONNECT);
        Ok(service.call_timeout(REQUEST).connect().await?)
    }

    /// Connects `count` edges, [`CONCURRENT_CONNECTS`] at a time.
    pub(super) async fn edges(&self, count: usize) -> Result<Vec<Edge>, Error> {
        let (mut edges, mut connecting) = (Vec::with_capacity(count), JoinSet::new());
        let mut begun = 0;
        while edges.len() < count {
            while begun < count && connecting.len() < CONCURRENT_CONNECTS {
                let edge =
                    Edge::builder().address(&self.edge_node.edges).meta("bench").connect_timeout(CONNECT);
                connecting.spawn(edge.call_timeout(REQUEST).connect());
                begun += 1;
            }
            match connecting.join_next().await {
                Some(joined) => edges.push(joined??),
                None => break,
            }
        }
        Ok(edges)
    }

    /// A name for the service, method or topic that no other run on this machine uses.
    pub(super) fn unique_name(&self) -> String {
        format!("bench-{}", std::process::id())
    }
}
