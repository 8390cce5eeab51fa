//! The reference's directory, while both systems run side by side: services that ask limes also find the
//! reference's nodes, and the edges that are still connected to them.

use std::collections::HashMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::frontiers::Frontiers;
use crate::config::Addr;
use limes_api::discovery::cluster_service_client::ClusterServiceClient;
use limes_api::discovery::{
    Edge, Frontier, GetEdgeByIdRequest, GetFrontierByEdgeIdRequest, ListFrontiersRequest,
};

/// How long connecting, and each answer, may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Concurrent look-ups of edges.
const CONCURRENCY: usize = 16;

/// A client of the reference's directory.
pub(super) struct Upstream {
    addr: Addr,
    client: ClusterServiceClient<Channel>,
    /// Its last list of nodes. It is kept through outages, because clients fail when a name leaves the list.
    last_list: Mutex<Option<Vec<Frontier>>>,
}

/// Suffix of the name of a reference's node while one of our nodes has the same name. Without it a client
/// would take both for one node, and look for the edges of one at the other.
const SUFFIX: &str = "@upstream";

/// The name under which this directory lists a node of the reference.
pub(super) fn listed_name(nodes: &Frontiers<'_>, mut name: String) -> String {
    if nodes.named(&name).is_some() {
        name.push_str(SUFFIX);
    }
    name
}

/// What the reference's directory adds to a list of nodes.
#[derive(Debug, Default)]
pub(super) struct UpstreamNodes {
    /// Its nodes.
    pub(super) frontiers: Vec<Frontier>,
    /// The nodes of edges that are not connected here.
    pub(super) homes: HashMap<u64, Frontier>,
}

impl UpstreamNodes {
    /// The same nodes, under names that none of our nodes has.
    pub(super) fn renamed(mut self, nodes: &Frontiers<'_>) -> Self {
        for old in self.frontiers.iter_mut().chain(self.homes.values_mut()) {
            old.frontier_id = listed_name(nodes, std::mem::take(&mut old.frontier_id));
        }
        self
    }
}

impl Upstream {
    /// A client that connects at its first request. Must be called within a runtime.
    ///
    /// # Errors
    /// The address cannot be part of a URI.
    pub(super) fn new(addr: &Addr) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        let channel = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect_lazy();
        let client = ClusterServiceClient::new(channel);
        Ok(Upstream { addr: addr.clone(), client, last_list: Mutex::default() })
    }

    fn unavailable(&self, status: &Status) -> Status {
        Status::unavailable(format!("discovery.upstream {}: {}", self.addr, status.message()))
    }

    /// Its nodes, or if it does not answer those of its last list.
    ///
    /// # Errors
    /// `UNAVAILABLE`: it has never answered.
    pub(super) async fn frontiers(&self) -> Result<Vec<Frontier>, Status> {
        let asked = self.client.clone().list_frontiers(ListFrontiersRequest::default()).await;
        match asked {
            Ok(answer) => {
                // It lists dead nodes for ever, and after a loss of its store nodes without an address.
                let usable = |node: &Frontier| !node.advertised_sb_addr.is_empty();
                let list: Vec<_> = answer.into_inner().frontiers.into_iter().filter(usable).collect();
                *self.last_list.lock() = Some(list.clone());
                Ok(list)
            }
            Err(status) => self.last_list.lock().clone().ok_or_else(|| self.unavailable(&status)),
        }
    }

    /// The node of an edge, if the edge is connected there.
    ///
    /// # Errors
    /// `UNAVAILABLE`: it does not answer.
    pub(super) async fn home(&self, edge: u64) -> Result<Option<Frontier>, Status> {
        let mut client = self.client.clone();
        let asked = client.get_frontier_by_edge(GetFrontierByEdgeIdRequest { edge_id: edge }).await;
        Ok(self.found(asked)?.and_then(|found| found.fontier))
    }

    /// As [`Upstream::home`], for many edges.
    ///
    /// # Errors
    /// As [`Upstream::home`].
    pub(super) async fn homes(&self, edges: Vec<u64>) -> Result<HashMap<u64, Frontier>, Status> {
        let asked =
            stream::iter(edges).map(|edge| async move { Ok::<_, Status>((edge, self.home(edge).await?)) });
        let found: Vec<_> = asked.buffer_unordered(CONCURRENCY).try_collect().await?;
        Ok(found.into_iter().filter_map(|(edge, home)| Some((edge, home?))).collect())
    }

    /// An edge, if it is connected there.
    ///
    /// # Errors
    /// As [`Upstream::home`].
    pub(super) async fn edge(&self, edge: u64) -> Result<Option<Edge>, Status> {
        let mut client = self.client.clone();
        let asked = client.get_edge_by_id(GetEdgeByIdRequest { edge_id: edge }).await;
        Ok(self.found(asked)?.and_then(|found| found.edge))
    }

    /// Distinguishes an unknown edge from a failure: the directory answers both with code UNKNOWN.
    fn found<T>(&self, asked: Result<tonic::Response<T>, Status>) -> Result<Option<T>, Status> {
        match asked {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound || status.message() == "redis: nil" => Ok(None),
            Err(status) => Err(self.unavailable(&status)),
        }
    }
}
