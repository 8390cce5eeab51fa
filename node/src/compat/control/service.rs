//! The methods of the control plane.

use std::sync::Arc;

use limes_routing::{EdgeId, ServiceId};
use tonic::{Request, Response, Status};

use super::filter::given;
use super::{edges, services};
use limes_api::control::control_plane_server::ControlPlane;
use limes_api::control::{
    Edge, GetEdgeRequest, GetServiceRequest, KickEdgeRequest, KickEdgeResponse, KickServiceRequest,
    KickServiceResponse, ListEdgeRpCsRequest, ListEdgeRpCsResponse, ListEdgesRequest, ListEdgesResponse,
    ListServiceRpCsRequest, ListServiceRpCsResponse, ListServiceTopicsRequest, ListServiceTopicsResponse,
    ListServicesRequest, ListServicesResponse, Service,
};

use crate::control::error::OperationError;
use crate::control::operations::Operations;
use crate::control::reader::Reader;
use crate::router::edge_methods::ByEdge;

type Answer<T> = Result<Response<T>, Status>;

/// The error of a kick. For an unknown service, too, it has the words of the reference.
fn kicked(outcome: Result<(), OperationError>) -> Result<(), Status> {
    outcome.map_err(|error| match error {
        OperationError::NotFound => Status::not_found("edge not online"),
        error => error.into(),
    })
}

/// The control plane of one port.
pub(crate) struct Control {
    operations: Arc<Operations>,
}

impl Control {
    /// The control plane that offers these operations.
    pub(crate) fn new(operations: Arc<Operations>) -> Self {
        Control { operations }
    }

    fn reader(&self) -> &Reader {
        self.operations.reader()
    }
}

#[tonic::async_trait]
impl ControlPlane for Control {
    async fn list_edges(&self, request: Request<ListEdgesRequest>) -> Answer<ListEdgesResponse> {
        let request = request.into_inner();
        let methods = match given(request.rpc.as_ref()) {
            Some(_) => self.operations.edge_methods().await?,
            None => ByEdge::new(),
        };
        let list = self.reader().walk(move |tables| edges::list(tables, &methods, &request)).await?;
        Ok(Response::new(list))
    }

    async fn get_edge(&self, request: Request<GetEdgeRequest>) -> Answer<Edge> {
        let edge = EdgeId(request.into_inner().edge_id);
        let tables = self.reader().tables().await?;
        let row = tables.edge(edge).ok_or(OperationError::NotFound)?;
        Ok(Response::new(edges::message(edge, &row)))
    }

    async fn kick_edge(&self, request: Request<KickEdgeRequest>) -> Answer<KickEdgeResponse> {
        kicked(self.operations.kick_edge(EdgeId(request.into_inner().edge_id)).await)?;
        Ok(Response::new(KickEdgeResponse {}))
    }

    async fn list_edge_rp_cs(&self, request: Request<ListEdgeRpCsRequest>) -> Answer<ListEdgeRpCsResponse> {
        let request = request.into_inner();
        let methods = self.operations.edge_methods().await?;
        let (rpcs, count) = self.reader().walk(move |tables| edges::rpcs(tables, &methods, &request)).await?;
        Ok(Response::new(ListEdgeRpCsResponse { rpcs, count }))
    }

    async fn list_services(&self, request: Request<ListServicesRequest>) -> Answer<ListServicesResponse> {
        let request = request.into_inner();
        let list = self.reader().walk(move |tables| services::list(tables, &request)).await?;
        Ok(Response::new(list))
    }

    async fn get_service(&self, request: Request<GetServiceRequest>) -> Answer<Service> {
        let service = ServiceId(request.into_inner().service_id);
        let tables = self.reader().tables().await?;
        let row = tables.services().find(|row| row.service == service).ok_or(OperationError::NotFound)?;
        Ok(Response::new(services::message(row)))
    }

    async fn kick_service(&self, request: Request<KickServiceRequest>) -> Answer<KickServiceResponse> {
        kicked(self.operations.kick_service(ServiceId(request.into_inner().service_id)).await)?;
        Ok(Response::new(KickServiceResponse {}))
    }

    async fn list_service_rp_cs(
        &self,
        request: Request<ListServiceRpCsRequest>,
    ) -> Answer<ListServiceRpCsResponse> {
        let names = services::NamesOf::from(request.into_inner());
        let (rpcs, count) = self.reader().walk(move |tables| names.list(tables, |row| &row.methods)).await?;
        Ok(Response::new(ListServiceRpCsResponse { rpcs, count }))
    }

    async fn list_service_topics(
        &self,
        request: Request<ListServiceTopicsRequest>,
    ) -> Answer<ListServiceTopicsResponse> {
        let names = services::NamesOf::from(request.into_inner());
        let (topics, count) = self.reader().walk(move |tables| names.list(tables, |row| &row.topics)).await?;
        Ok(Response::new(ListServiceTopicsResponse { topics, count }))
    }
}
