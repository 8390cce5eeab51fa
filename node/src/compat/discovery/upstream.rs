//! The reference's directory, while both systems run side by side: services that ask here find the old
//! nodes too, and edges that have not moved yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::frontiers::Frontiers;
use crate::config::Addr;
use limes_api::discovery::cluster_service_client::ClusterServiceClient;
use limes_api::discovery::{
    Edge, Frontier, GetEdgeByIdRequest, GetFrontierByEdgeIdRequest, ListFrontiersRequest,
};

/// How long it may take to connect, and to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Edges that are asked for at once.
const AT_ONCE: usize = 16;

/// The old directory.
pub(super) struct Upstream {
    addr: Addr,
    client: ClusterServiceClient<Channel>,
    /// What it has listed last. Clients break when a name leaves the list, so it outlives an outage.
    known: Mutex<Option<Vec<Frontier>>>,
}

/// What the name of an old node ends in while a node of ours has its name: a client takes two that share one
/// for the same, and would look for the old one's edges here.
const APART: &str = "@upstream";

/// The name under which an old node is known here.
pub(super) fn apart(nodes: &Frontiers<'_>, mut name: String) -> String {
    if nodes.named(&name).is_some() {
        name.push_str(APART);
    }
    name
}

/// What the old directory adds to an answer.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Its nodes.
    pub(super) frontiers: Vec<Frontier>,
    /// The nodes of edges that are not connected here.
    pub(super) homes: HashMap<u64, Frontier>,
}

impl Beside {
    /// The same, under names that no node of ours has.
    pub(super) fn apart(mut self, nodes: &Frontiers<'_>) -> Self {
        for old in self.frontiers.iter_mut().chain(self.homes.values_mut()) {
            old.frontier_id = apart(nodes, std::mem::take(&mut old.frontier_id));
        }
        self
    }
}

impl Upstream {
    /// Of this address; connects when it is asked something. Within a runtime only.
    ///
    /// # Errors
    /// The address cannot be part of a URI.
    pub(super) fn new(addr: &Addr) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        let channel = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect_lazy();
        let client = ClusterServiceClient::new(channel);
        Ok(Upstream { addr: addr.clone(), client, known: Mutex::default() })
    }

    fn away(&self, status: &Status) -> Status {
        Status::unavailable(format!("discovery.upstream {}: {}", self.addr, status.message()))
    }

    /// Its nodes, as it lists them now, or has listed them last.
    ///
    /// # Errors
    /// `UNAVAILABLE`: it has never answered.
    pub(super) async fn frontiers(&self) -> Result<Vec<Frontier>, Status> {
        let asked = self.client.clone().list_frontiers(ListFrontiersRequest::default()).await;
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(answer) => {
                // It keeps dead nodes for ever, and after a loss of its store some without an address.
                let usable = |node: &Frontier| !node.advertised_sb_addr.is_empty();
                let list: Vec<_> = answer.into_inner().frontiers.into_iter().filter(usable).collect();
                *known() = Some(list.clone());
                Ok(list)
            }
            Err(status) => known().clone().ok_or_else(|| self.away(&status)),
        }
    }

    /// The node of an edge, if it knows it.
    ///
    /// # Errors
    /// `UNAVAILABLE`: it does not answer.
    pub(super) async fn home(&self, edge: u64) -> Result<Option<Frontier>, Status> {
        let mut client = self.client.clone();
        let asked = client.get_frontier_by_edge(GetFrontierByEdgeIdRequest { edge_id: edge }).await;
        Ok(self.found(asked)?.and_then(|found| found.fontier))
    }

    /// As [`Upstream::home`], of many.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn homes(&self, edges: Vec<u64>) -> Result<HashMap<u64, Frontier>, Status> {
        let asked =
            stream::iter(edges).map(|edge| async move { Ok::<_, Status>((edge, self.home(edge).await?)) });
        let found: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().filter_map(|(edge, home)| Some((edge, home?))).collect())
    }

    /// An edge, if it knows it.
    ///
    /// # Errors
    /// As for [`Upstream::home`].
    pub(super) async fn edge(&self, edge: u64) -> Result<Option<Edge>, Status> {
        let mut client = self.client.clone();
        let asked = client.get_edge_by_id(GetEdgeByIdRequest { edge_id: edge }).await;
        Ok(self.found(asked)?.and_then(|found| found.edge))
    }

    /// Tells "nobody" from "no answer": what it does not know it calls an unknown error.
    fn found<T>(&self, asked: Result<tonic::Response<T>, Status>) -> Result<Option<T>, Status> {
        match asked {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound || status.message() == "redis: nil" => Ok(None),
            Err(status) => Err(self.away(&status)),
        }
    }
}
