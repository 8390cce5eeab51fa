//! The control plane's REST routes. A literal takes precedence over an id: `/v1/edges/rpcs` is not an edge.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::Response;
use prost_reflect::ServiceDescriptor;

use super::service::Control;
use crate::compat::rest::{Call, moved, not_found};
use crate::control::descriptors::control_pool;
use limes_api::control::control_plane_server::ControlPlane;

/// A route: the method that it calls, with the id in the path.
#[derive(Debug, Clone, Copy)]
enum Route<'a> {
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

impl<'a> Route<'a> {
    fn of(method: &Method, path: &'a str) -> Option<Self> {
        let mut parts = path.strip_prefix("/v1/")?.splitn(2, '/');
        let (noun, rest) = (parts.next()?, parts.next());
        let id = rest.filter(|id| !id.is_empty() && !id.contains('/'));
        match (method.as_str(), noun, rest) {
            ("GET", "edges", None) => Some(Route::ListEdges),
            ("GET", "edges", Some("rpcs")) => Some(Route::ListEdgeRpcs),
            ("GET", "edges", Some(_)) => id.map(Route::GetEdge),
            ("DELETE", "edges", Some(_)) => id.map(Route::KickEdge),
            ("GET", "services", None) => Some(Route::ListServices),
            ("GET", "services", Some("rpcs")) => Some(Route::ListServiceRpcs),
            ("GET", "services", Some("topics")) => Some(Route::ListServiceTopics),
            ("GET", "services", Some(_)) => id.map(Route::GetService),
            ("DELETE", "services", Some(_)) => id.map(Route::KickService),
            _ => None,
        }
    }
}

/// The routes of the control plane.
pub(crate) fn rest(control: Arc<Control>) -> Router {
    Router::new().fallback(serve).with_state(control)
}

async fn serve(State(control): State<Arc<Control>>, method: Method, uri: Uri) -> Response {
    let path = uri.path();
    if let Some(route) = Route::of(&method, path) {
        let Some(service) = descriptor() else { return not_found() };
        return answer(&control, route, Call::new(&service, &uri)).await;
    }
    match path.strip_suffix('/').filter(|path| Route::of(&method, path).is_some()) {
        Some(path) => moved(&uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))),
        None => not_found(),
    }
}

fn descriptor() -> Option<ServiceDescriptor> {
    control_pool().get_service_by_name("controlplane.ControlPlane")
}

async fn answer(control: &Control, route: Route<'_>, call: Call<'_>) -> Response {
    match route {
        Route::ListEdges => call.run("ListEdges", |request| control.list_edges(request)).await,
        Route::ListEdgeRpcs => call.run("ListEdgeRPCs", |request| control.list_edge_rp_cs(request)).await,
        Route::GetEdge(id) => {
            call.with("edge_id", id).run("GetEdge", |request| control.get_edge(request)).await
        }
        Route::KickEdge(id) => {
            call.with("edge_id", id).run("KickEdge", |request| control.kick_edge(request)).await
        }
        Route::ListServices => call.run("ListServices", |request| control.list_services(request)).await,
        Route::ListServiceRpcs => {
            call.run("ListServiceRPCs", |request| control.list_service_rp_cs(request)).await
        }
        Route::ListServiceTopics => {
            call.run("ListServiceTopics", |request| control.list_service_topics(request)).await
        }
        Route::GetService(id) => {
            call.with("service_id", id).run("GetService", |request| control.get_service(request)).await
        }
        Route::KickService(id) => {
            call.with("service_id", id).run("KickService", |request| control.kick_service(request)).await
        }
    }
}
