//! The directory's REST routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::Response;

use super::service::Discovery;
use crate::compat::rest::{Call, moved, not_found};
use crate::control::descriptors::discovery_pool;
use limes_api::discovery::cluster_service_server::ClusterService;
use limes_api::discovery::health_server::Health;

/// Paths below `/cluster/v1/`.
const ROUTES: [&str; 9] = [
    "frontier",
    "frontiers",
    "edges",
    "edge",
    "edges/count",
    "services",
    "service",
    "services/count",
    "health",
];

/// The routes of the directory.
pub(crate) fn rest(discovery: Arc<Discovery>) -> Router {
    Router::new().fallback(serve).with_state(discovery)
}

async fn serve(State(discovery): State<Arc<Discovery>>, method: Method, uri: Uri) -> Response {
    let Some(route) = uri.path().strip_prefix("/cluster/v1/").filter(|_| method == Method::GET) else {
        return not_found();
    };
    if let Some(route) = route.strip_suffix('/').filter(|route| ROUTES.contains(route)) {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return moved(&format!("/cluster/v1/{route}{query}"));
    }
    let service = if route == "health" { "controlplane.Health" } else { "controlplane.ClusterService" };
    match discovery_pool().get_service_by_name(service) {
        Some(service) => answer(&discovery, route, Call::new(&service, &uri)).await,
        None => not_found(),
    }
}

async fn answer(directory: &Discovery, route: &str, call: Call<'_>) -> Response {
    match route {
        "frontier" => call.run("GetFrontierByEdge", |q| directory.get_frontier_by_edge(q)).await,
        "frontiers" => call.run("ListFrontiers", |q| directory.list_frontiers(q)).await,
        "edges" => call.run("ListEdges", |q| directory.list_edges(q)).await,
        "edge" => call.run("GetEdgeByID", |q| directory.get_edge_by_id(q)).await,
        "edges/count" => call.run("GetEdgesCount", |q| directory.get_edges_count(q)).await,
        "services" => call.run("ListServices", |q| directory.list_services(q)).await,
        "service" => call.run("GetServiceByID", |q| directory.get_service_by_id(q)).await,
        "services/count" => call.run("GetServicesCount", |q| directory.get_services_count(q)).await,
        "health" => call.run("Check", |q| directory.check(q)).await,
        _ => not_found(),
    }
}
