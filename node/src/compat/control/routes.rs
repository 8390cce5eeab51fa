//! The control plane's REST routes. A literal goes before an id: `/v1/edges/rpcs` is no edge.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::Response;
use prost_reflect::ServiceDescriptor;

use super::Control;
use crate::compat::descriptors::control_pool;
use crate::compat::rest::{Call, moved, not_found};
use limes_api::control::control_plane_server::ControlPlane;

/// The methods that have a route, with the id in the path.
#[derive(Debug, Clone, Copy)]
enum EdgeLocation<'a> {
    ListEdges,
    ListEdgeRpcs,
    GetEdge(&'a str),
    KickEdge(&'a str),
    ListServices,
    ListServiceRpcs,
    ListServiceTopics,
    GetService(&'a str),
    KickService(&'a str),
}

impl<'a> EdgeLocation<'a> {
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        let mut parts = path.strip_prefix("/v1/")?.splitn(2, '/');
        let (noun, rest) = (parts.next()?, parts.next());
        let id = rest.filter(|id| !id.is_empty() && !id.contains('/'));
        match (method.as_str(), noun, rest) {
            ("GET", "edges", None) => Some(EdgeLocation::ListEdges),
            ("GET", "edges", Some("rpcs")) => Some(EdgeLocation::ListEdgeRpcs),
            ("GET", "edges", Some(_)) => id.map(EdgeLocation::GetEdge),
            ("DELETE", "edges", Some(_)) => id.map(EdgeLocation::KickEdge),
            ("GET", "services", None) => Some(EdgeLocation::ListServices),
            ("GET", "services", Some("rpcs")) => Some(EdgeLocation::ListServiceRpcs),
            ("GET", "services", Some("topics")) => Some(EdgeLocation::ListServiceTopics),
            ("GET", "services", Some(_)) => id.map(EdgeLocation::GetService),
            ("DELETE", "services", Some(_)) => id.map(EdgeLocation::KickService),
            _ => None,
        }
    }
}

/// The routes of the control plane.
pub(in crate::compat) fn rest(control: Arc<Control>) -> Router {
    Router::new().fallback(serve).with_state(control)
}

async fn serve(State(control): State<Arc<Control>>, method: Method, uri: Uri) -> Response {
    let path = uri.path();
    if let Some(route) = EdgeLocation::of(&method, path) {
        let Some(service) = descriptor() else { return not_found() };
        return answer(&control, route, Call::new(&service, &uri)).await;
    }
    match path.strip_suffix('/').filter(|path| EdgeLocation::of(&method, path).is_some()) {
        Some(path) => moved(&uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))),
        None => not_found(),
    }
}

fn descriptor() -> Option<ServiceDescriptor> {
    control_pool().get_service_by_name("controlplane.ControlPlane")
}

async fn answer(control: &Control, route: EdgeLocation<'_>, call: Call<'_>) -> Response {
    match route {
        EdgeLocation::ListEdges => call.run("ListEdges", |request| control.list_edges(request)).await,
        EdgeLocation::ListEdgeRpcs => {
            call.run("ListEdgeRPCs", |request| control.list_edge_rp_cs(request)).await
        }
        EdgeLocation::GetEdge(id) => {
            call.with("edge_id", id).run("GetEdge", |request| control.get_edge(request)).await
        }
        EdgeLocation::KickEdge(id) => {
            let kick = |request| ControlPlane::kick_edge(control, request);
            call.with("edge_id", id).run("KickEdge", kick).await
        }
        EdgeLocation::ListServices => {
            call.run("ListServices", |request| control.list_services(request)).await
        }
        EdgeLocation::ListServiceRpcs => {
            call.run("ListServiceRPCs", |request| control.list_service_rp_cs(request)).await
        }
        EdgeLocation::ListServiceTopics => {
            call.run("ListServiceTopics", |request| control.list_service_topics(request)).await
        }
        EdgeLocation::GetService(id) => {
            call.with("service_id", id).run("GetService", |request| control.get_service(request)).await
        }
        EdgeLocation::KickService(id) => {
            let kick = |request| ControlPlane::kick_service(control, request);
            call.with("service_id", id).run("KickService", kick).await
        }
    }
}
