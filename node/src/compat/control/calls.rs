//! The control plane's calls.

use limes_routing::{EdgeId, ServiceId};
use tonic::{Request, Response, Status};

use super::{Control, edges, given, services};
use limes_api::control::control_plane_server::ControlPlane;
use limes_api::control::{
    Edge, GetEdgeRequest, GetServiceRequest, KickEdgeRequest, KickEdgeResponse, KickServiceRequest,
    KickServiceResponse, ListEdgeRpCsRequest, ListEdgeRpCsResponse, ListEdgesRequest, ListEdgesResponse,
    ListServiceRpCsRequest, ListServiceRpCsResponse, ListServiceTopicsRequest, ListServiceTopicsResponse,
    ListServicesRequest, ListServicesResponse, Service,
};

use crate::router::edge_methods::ByEdge;

type Answer<T> = Result<Response<T>, Status>;

fn not_found() -> Status {
    Status::not_found("not found")
}

impl Control {
    async fn edge_methods(&self) -> Result<ByEdge, Status> {
        let methods = self.edge_methods.of_cluster(&self.peers).await;
        methods.map_err(|error| Status::unavailable(error.to_string()))
    }
}

#[tonic::async_trait]
impl ControlPlane for Control {
    async fn list_edges(&self, request: Request<ListEdgesRequest>) -> Answer<ListEdgesResponse> {
        let request = request.into_inner();
        let methods = match given(request.rpc.as_ref()) {
            Some(_) => self.edge_methods().await?,
            None => ByEdge::new(),
        };
        self.reader.walk(move |tables| edges::list(tables, &methods, &request)).await.map(Response::new)
    }

    async fn get_edge(&self, request: Request<GetEdgeRequest>) -> Answer<Edge> {
        let edge = EdgeId(request.into_inner().edge_id);
        let tables = self.reader.tables().await?;
        let row = tables.edge(edge).ok_or_else(not_found)?;
        Ok(Response::new(edges::message(edge, &row)))
    }

    async fn kick_edge(&self, request: Request<KickEdgeRequest>) -> Answer<KickEdgeResponse> {
        self.kick_edge(EdgeId(request.into_inner().edge_id)).await?;
        Ok(Response::new(KickEdgeResponse {}))
    }

    async fn list_edge_rp_cs(&self, request: Request<ListEdgeRpCsRequest>) -> Answer<ListEdgeRpCsResponse> {
        let request = request.into_inner();
        let methods = self.edge_methods().await?;
        let walked = self.reader.walk(move |tables| edges::rpcs(tables, &methods, &request)).await;
        walked.map(|(rpcs, count)| Response::new(ListEdgeRpCsResponse { rpcs, count }))
    }

    async fn list_services(&self, request: Request<ListServicesRequest>) -> Answer<ListServicesResponse> {
        let request = request.into_inner();
        self.reader.walk(move |tables| services::list(tables, &request)).await.map(Response::new)
    }

    async fn get_service(&self, request: Request<GetServiceRequest>) -> Answer<Service> {
        let service = ServiceId(request.into_inner().service_id);
        let tables = self.reader.tables().await?;
        let row = tables.services().find(|row| row.service == service).ok_or_else(not_found)?;
        Ok(Response::new(services::message(row)))
    }

    async fn kick_service(&self, request: Request<KickServiceRequest>) -> Answer<KickServiceResponse> {
        self.kick_service(ServiceId(request.into_inner().service_id)).await?;
        Ok(Response::new(KickServiceResponse {}))
    }

    async fn list_service_rp_cs(
        &self,
        request: Request<ListServiceRpCsRequest>,
    ) -> Answer<ListServiceRpCsResponse> {
        let names = services::NamesOf::from(request.into_inner());
        let walked = self.reader.walk(move |tables| names.list(tables, |row| &row.methods)).await;
        walked.map(|(rpcs, count)| Response::new(ListServiceRpCsResponse { rpcs, count }))
    }

    async fn list_service_topics(
        &self,
        request: Request<ListServiceTopicsRequest>,
    ) -> Answer<ListServiceTopicsResponse> {
        let names = services::NamesOf::from(request.into_inner());
        let walked = self.reader.walk(move |tables| names.list(tables, |row| &row.topics)).await;
        walked.map(|(topics, count)| Response::new(ListServiceTopicsResponse { topics, count }))
    }
}
