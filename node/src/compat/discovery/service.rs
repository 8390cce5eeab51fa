//! The methods of the directory.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use limes_routing::{EdgeId, Tables};
use tonic::{Request, Response, Status};

use super::frontiers::Frontiers;
use super::lists;
use super::upstream::{self, Upstream, UpstreamNodes};
use crate::config::Addr;
use crate::control::health::is_serving;
use crate::control::reader::Reader;
use crate::router::context::Router;
use crate::router::resolve::resolve_edge;
use crate::router::route::Resolution;
use limes_api::discovery::cluster_service_server::ClusterService;
use limes_api::discovery::health_check_response::ServingStatus;
use limes_api::discovery::health_server::Health;
use limes_api::discovery::{
    GetEdgeByIdRequest, GetEdgeByIdResponse, GetEdgesCountRequest, GetEdgesCountResponse,
    GetFrontierByEdgeIdRequest, GetFrontierByEdgeIdResponse, GetServiceByIdRequest, GetServiceByIdResponse,
    GetServicesCountRequest, GetServicesCountResponse, HealthCheckRequest, HealthCheckResponse,
    ListEdgesRequest, ListEdgesResponse, ListFrontiersRequest, ListFrontiersResponse, ListServicesRequest,
    ListServicesResponse,
};

type Answer<T> = Result<Response<T>, Status>;

/// The directory.
pub(crate) struct Discovery {
    reader: Reader,
    /// Knows which edges are in their reconnect grace.
    router: Arc<Router>,
    /// The reference's directory, while both systems run side by side.
    upstream: Option<Upstream>,
}

impl Discovery {
    /// A directory of the cluster and of `upstream`. Must be called within a runtime.
    ///
    /// # Errors
    /// The address of `upstream` cannot be part of a URI.
    pub(crate) fn new(
        reader: Reader,
        router: Arc<Router>,
        upstream: Option<&Addr>,
    ) -> Result<Self, tonic::transport::Error> {
        Ok(Discovery { reader, router, upstream: upstream.map(Upstream::new).transpose()? })
    }

    /// Looks something up in the tables, behind a read barrier.
    async fn read<T>(&self, look: impl FnOnce(&Tables, &Frontiers<'_>) -> Result<T, Status>) -> Answer<T> {
        let tables = self.reader.tables().await?;
        look(&tables, &Frontiers::of(&tables, self.reader.leaving())).map(Response::new)
    }

    /// As [`Discovery::read`], on a thread for a walk over many rows.
    async fn walk<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Tables, &Frontiers<'_>) -> Result<T, Status> + Send + 'static,
    ) -> Answer<T> {
        let leaving = self.reader.leaving();
        let walk = move |tables: &Tables| look(tables, &Frontiers::of(tables, leaving));
        self.reader.walk(walk).await?.map(Response::new)
    }

    /// The nodes that the reference's directory adds to a list.
    async fn upstream_nodes(&self, request: &ListFrontiersRequest) -> Result<UpstreamNodes, Status> {
        let Some(upstream) = &self.upstream else { return Ok(UpstreamNodes::default()) };
        let paged = request.cursor.is_some() && request.count.is_some();
        if request.edge_ids.is_empty() || paged {
            return Ok(UpstreamNodes { frontiers: upstream.frontiers().await?, ..UpstreamNodes::default() });
        }
        let tables = self.reader.tables().await?;
        let unknown = request.edge_ids.iter().copied().filter(|edge| tables.edge(EdgeId(*edge)).is_none());
        Ok(UpstreamNodes { homes: upstream.homes(unknown.collect()).await?, ..UpstreamNodes::default() })
    }

    /// The name under which this directory lists a node of the reference.
    async fn listed_name(&self, name: &str) -> Result<String, Status> {
        let name = self.read(|_, nodes| Ok(upstream::listed_name(nodes, name.to_owned()))).await?;
        Ok(name.into_inner())
    }

    fn health(&self) -> HealthCheckResponse {
        let serving = is_serving(self.reader.consensus());
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        HealthCheckResponse { status: status.into() }
    }
}

#[tonic::async_trait]
impl ClusterService for Discovery {
    async fn get_frontier_by_edge(
        &self,
        request: Request<GetFrontierByEdgeIdRequest>,
    ) -> Answer<GetFrontierByEdgeIdResponse> {
        let edge = EdgeId(request.into_inner().edge_id);
        let look = |tables: &Tables, nodes: &Frontiers<'_>| {
            Ok(tables.edge(edge).and_then(|row| nodes.of_node(row.home.node)))
        };
        let mut found = self.read(look).await?.into_inner();
        if let (None, Some(upstream)) = (&found, &self.upstream) {
            found = upstream.home(edge.0).await?;
            if let Some(old) = &mut found {
                old.frontier_id = self.listed_name(&old.frontier_id).await?;
            }
        }
        let in_grace = || matches!(resolve_edge(&self.router, edge, None), Resolution::InGrace(_));
        if found.is_none()
            && in_grace()
            && let Some(own) = self.reader.consensus().node()
        {
            // The edge is expected to reconnect: any node holds calls for it meanwhile, so this one does.
            found = self.read(|_, nodes| Ok(nodes.of_node(own))).await?.into_inner();
        }
        let fontier = Some(found.ok_or_else(lists::nil)?);
        Ok(Response::new(GetFrontierByEdgeIdResponse { fontier }))
    }

    async fn list_frontiers(&self, request: Request<ListFrontiersRequest>) -> Answer<ListFrontiersResponse> {
        let request = request.into_inner();
        let upstream = self.upstream_nodes(&request).await?;
        self.read(|tables, nodes| lists::frontiers(tables, nodes, &upstream.renamed(nodes), &request)).await
    }

    async fn list_edges(&self, request: Request<ListEdgesRequest>) -> Answer<ListEdgesResponse> {
        let request = request.into_inner();
        self.walk(move |tables, nodes| lists::edges(tables, nodes, &request)).await
    }

    async fn get_edge_by_id(&self, request: Request<GetEdgeByIdRequest>) -> Answer<GetEdgeByIdResponse> {
        let edge = EdgeId(request.into_inner().edge_id);
        let look = |tables: &Tables, nodes: &Frontiers<'_>| {
            Ok(tables.edge(edge).map(|row| lists::edge_message(edge, &row, nodes)))
        };
        let mut found = self.read(look).await?.into_inner();
        if let (None, Some(upstream)) = (&found, &self.upstream) {
            found = upstream.edge(edge.0).await?;
            if let Some(old) = &mut found {
                old.frontier_id = self.listed_name(&old.frontier_id).await?;
            }
        }
        Ok(Response::new(GetEdgeByIdResponse { edge: Some(found.ok_or_else(lists::nil)?) }))
    }

    async fn get_edges_count(&self, _: Request<GetEdgesCountRequest>) -> Answer<GetEdgesCountResponse> {
        self.read(|tables, _| Ok(GetEdgesCountResponse { count: tables.edge_count() as u64 })).await
    }

    async fn list_services(&self, request: Request<ListServicesRequest>) -> Answer<ListServicesResponse> {
        let request = request.into_inner();
        self.walk(move |tables, nodes| lists::services(tables, nodes, &request)).await
    }

    async fn get_service_by_id(
        &self,
        request: Request<GetServiceByIdRequest>,
    ) -> Answer<GetServiceByIdResponse> {
        let id = request.into_inner().service_id;
        let look = |tables: &Tables, nodes: &Frontiers<'_>| {
            let row = tables.services().find(|row| row.service.0 == id).ok_or_else(lists::nil)?;
            Ok(GetServiceByIdResponse { service: Some(lists::service_message(row, nodes)) })
        };
        self.read(look).await
    }

    async fn get_services_count(
        &self,
        _: Request<GetServicesCountRequest>,
    ) -> Answer<GetServicesCountResponse> {
        self.read(|tables, _| Ok(GetServicesCountResponse { count: tables.services().count() as u64 })).await
    }
}

#[tonic::async_trait]
impl Health for Discovery {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        Ok(Response::new(self.health()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Answer<Self::WatchStream> {
        Ok(Response::new(stream::iter([Ok(self.health())]).boxed()))
    }
}
