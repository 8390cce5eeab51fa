//! What the log of each node holds, read through its own watch.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::history::{Event, Incarnation, Seen};
use crate::cluster::NodeAddrs;
use limes_api::v1::change::What;
use limes_api::v1::limes_client::LimesClient;
use limes_api::v1::{StatusRequest, WatchRequest};

/// How long one node may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads each node's changes from where it was the last time.
pub(super) struct Auditor {
    begin: Instant,
    cluster: String,
    nodes: Vec<String>,
    read: BTreeMap<usize, u64>,
}

impl Auditor {
    pub(super) async fn start(nodes: &[NodeAddrs], begin: Instant) -> io::Result<Auditor> {
        let nodes: Vec<String> = nodes.iter().map(|node| format!("http://{}", node.control)).collect();
        let mut client = LimesClient::connect(nodes[0].clone()).await.map_err(io::Error::other)?;
        let status = client.status(StatusRequest { local: true }).await.map_err(io::Error::other)?;
        Ok(Auditor { begin, cluster: status.into_inner().cluster, nodes, read: BTreeMap::new() })
    }

    /// All that each node has applied since the last time.
    pub(super) async fn audit(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        for (node, address) in self.nodes.iter().enumerate() {
            let after = self.read.get(&node).copied().unwrap_or(0);
            let read = timeout(PATIENCE, read(address, format!("{}:{after}", self.cluster))).await;
            let (to, seen) = read.map_err(|_| io::Error::other("a node does not say what it has"))??;
            self.read.insert(node, to);
            events.push(Event::Audited {
                node,
                after,
                to,
                at: self.begin.elapsed().as_micros() as u64,
                seen,
            });
        }
        Ok(events)
    }
}

async fn read(address: &str, from: String) -> io::Result<(u64, Vec<Seen>)> {
    let mut client = LimesClient::connect(address.to_owned()).await.map_err(io::Error::other)?;
    let changes = client.watch(WatchRequest { from, local: false }).await.map_err(io::Error::other)?;
    let mut changes = changes.into_inner();
    let mut seen = Vec::new();
    while let Some(change) = changes.message().await.map_err(io::Error::other)? {
        match change.what {
            Some(What::Edge(edge)) => {
                let place = change.position.split_once(':').map_or("", |(_, place)| place);
                let revision = place.split('.').next().and_then(|number| number.parse().ok());
                let incarnation = parse(&edge.incarnation).zip(revision);
                let (incarnation, revision) =
                    incarnation.ok_or_else(|| io::Error::other("a change without meaning"))?;
                seen.push(Seen { revision, edge: edge.id, incarnation });
            }
            Some(What::Synced(synced)) => return Ok((synced.revision, seen)),
            Some(What::Compacted(_)) => return Err(io::Error::other("the watch goes back too short a time")),
            _ => {}
        }
    }
    Err(io::Error::other("a watch was cut"))
}

fn parse(text: &str) -> Option<Incarnation> {
    let (revision, ordinal) = text.split_once('.')?;
    Some((revision.parse().ok()?, ordinal.parse().ok()?))
}
