//! Reads what the log of each node holds, through the node's own watch.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use limes_api::v1::change::What;
use limes_api::v1::limes_client::LimesClient;
use limes_api::v1::{StatusRequest, WatchRequest};
use tokio::time::timeout;

use super::history::{Event, Incarnation, Seen};
use crate::cluster::NodeAddrs;
use crate::error::Error;

/// Time limit of one node.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads each node's changes since the last audit.
pub(super) struct Auditor {
    begin: Instant,
    cluster: String,
    nodes: Vec<String>,
    /// The revision up to which each node was read.
    read: BTreeMap<usize, u64>,
}

impl Auditor {
    pub(super) async fn start(nodes: &[NodeAddrs], begin: Instant) -> Result<Auditor, Error> {
        let nodes: Vec<String> = nodes.iter().map(|node| format!("http://{}", node.control)).collect();
        let mut client = LimesClient::connect(nodes[0].clone()).await?;
        let status = client.status(StatusRequest { local: true }).await?;
        Ok(Auditor { begin, cluster: status.into_inner().cluster, nodes, read: BTreeMap::new() })
    }

    /// What each node has applied since the last audit.
    pub(super) async fn audit(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        for (node, address) in self.nodes.iter().enumerate() {
            let after = self.read.get(&node).copied().unwrap_or(0);
            let read = timeout(PATIENCE, read(address, format!("{}:{after}", self.cluster))).await;
            let (to, seen) = read.map_err(|_| Error::timeout("no complete watch of a node", PATIENCE))??;
            self.read.insert(node, to);
            let at = self.begin.elapsed().as_micros() as u64;
            events.push(Event::Audited { node, after, to, at, seen });
        }
        Ok(events)
    }
}

/// The edges that came online after the position `from`, and the revision up to which these are all.
async fn read(address: &str, from: String) -> Result<(u64, Vec<Seen>), Error> {
    let mut client = LimesClient::connect(address.to_owned()).await?;
    let mut changes = client.watch(WatchRequest { from, local: false }).await?.into_inner();
    let mut seen = Vec::new();
    while let Some(change) = changes.message().await? {
        match change.what {
            Some(What::Edge(edge)) => {
                let parsed = parse_revision(&change.position).zip(parse_incarnation(&edge.incarnation));
                let (revision, incarnation) =
                    parsed.ok_or(Error::Watch("a change without a position or an incarnation"))?;
                seen.push(Seen { revision, edge: edge.id, incarnation });
            }
            Some(What::Synced(synced)) => return Ok((synced.revision, seen)),
            Some(What::Compacted(_)) => return Err(Error::Watch("the node no longer keeps all changes")),
            _ => {}
        }
    }
    Err(Error::Watch("the node ended it"))
}

/// The revision in a position, `CLUSTER:REVISION.ORDINAL`.
fn parse_revision(position: &str) -> Option<u64> {
    let (_, place) = position.split_once(':')?;
    place.split('.').next()?.parse().ok()
}

/// An incarnation, `REVISION.ORDINAL`.
fn parse_incarnation(text: &str) -> Option<Incarnation> {
    let (revision, ordinal) = text.split_once('.')?;
    Some((revision.parse().ok()?, ordinal.parse().ok()?))
}
