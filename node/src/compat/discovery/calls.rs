//! The directory's calls.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use limes_routing::{EdgeId, Tables};
use tonic::{Request, Response, Status};

use super::frontiers::Frontiers;
use super::upstream::Beside;
use super::{Discovery, lists, upstream};
use crate::compat::health::is_serving;
use crate::router::resolve::{Resolution, resolve_edge};
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

impl Discovery {
    /// PeekBackoff something up in the tables of now.
    async fn read<T>(&self, look: impl FnOnce(&Tables, &Frontiers<'_>) -> Result<T, Status>) -> Answer<T> {
        let tables = self.reader.tables().await?;
        look(&tables, &Frontiers::of(&tables, self.reader.leaving())).map(Response::new)
    }

    /// As [`Discovery::read`], over many rows.
    async fn walk<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Tables, &Frontiers<'_>) -> Result<T, Status> + Send + 'static,
    ) -> Answer<T> {
        let leaving = self.reader.leaving();
        let walk = move |tables: &Tables| look(tables, &Frontiers::of(tables, leaving));
        self.reader.walk(walk).await?.map(Response::new)
    }

    /// What the old directory adds to a list of nodes.
    async fn beside(&self, request: &ListFrontiersRequest) -> Result<Beside, Status> {
        let Some(upstream) = &self.upstream else { return Ok(Beside::default()) };
        let paged = request.cursor.is_some() && request.count.is_some();
        if request.edge_ids.is_empty() || paged {
            return Ok(Beside { frontiers: upstream.frontiers().await?, ..Beside::default() });
        }
        let tables = self.reader.tables().await?;
        let unknown = request.edge_ids.iter().copied().filter(|edge| tables.edge(EdgeId(*edge)).is_none());
        Ok(Beside { homes: upstream.homes(unknown.collect()).await?, ..Beside::default() })
    }

    /// The name under which an old node is known here.
    async fn apart(&self, name: &str) -> Result<String, Status> {
        let apart = self.read(|_, nodes| Ok(upstream::apart(nodes, name.to_owned()))).await?;
        Ok(apart.into_inner())
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
                old.frontier_id = self.apart(&old.frontier_id).await?;
            }
        }
        let in_grace = || matches!(resolve_edge(&self.router, edge, None), Resolution::InGrace(_));
        if found.is_none()
            && in_grace()
            && let Some(own) = self.reader.consensus().node()
        {
            // It is about to connect again: calls wait for it here as well as elsewhere.
            found = self.read(|_, nodes| Ok(nodes.of_node(own))).await?.into_inner();
        }
        let fontier = Some(found.ok_or_else(lists::nil)?);
        Ok(Response::new(GetFrontierByEdgeIdResponse { fontier }))
    }

    async fn list_frontiers(&self, request: Request<ListFrontiersRequest>) -> Answer<ListFrontiersResponse> {
        let request = request.into_inner();
        let beside = self.beside(&request).await?;
        self.read(|tables, nodes| lists::frontiers(tables, nodes, &beside.apart(nodes), &request)).await
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
                old.frontier_id = self.apart(&old.frontier_id).await?;
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
