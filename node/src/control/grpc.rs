//! What every gRPC port offers: health, reflection, and REST beside it.

use std::convert::Infallible;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use prost_reflect::DescriptorPool;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;
use tower::ServiceExt;
use tracing::error;

use super::health::NodeHealth;
use crate::consensus::handle::Consensus;

/// Largest request that is accepted, in bytes. Honest requests name at most some hundred edges.
pub(crate) const REQUEST_MAX: usize = 256 << 10;

/// The gRPC services of one port.
pub(crate) struct GrpcPort {
    routes: Routes,
    pool: &'static DescriptorPool,
}

impl GrpcPort {
    /// A port with health and both versions of reflection for the services of `pool`.
    pub(crate) fn new(
        consensus: Consensus,
        pool: &'static DescriptorPool,
        descriptors: &'static [u8],
    ) -> Self {
        let names = pool.services().map(|service| service.full_name().to_owned()).collect();
        let health =
            HealthServer::new(NodeHealth::new(consensus, names)).max_decoding_message_size(REQUEST_MAX);
        let mut routes = Routes::new(health);
        let builder = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        match (builder().build_v1(), builder().build_v1alpha()) {
            (Ok(v1), Ok(v1alpha)) => {
                routes = routes
                    .add_service(v1.max_decoding_message_size(REQUEST_MAX))
                    .add_service(v1alpha.max_decoding_message_size(REQUEST_MAX));
            }
            (Err(error), _) | (_, Err(error)) => error!(%error, "gRPC reflection is not served"),
        }
        GrpcPort { routes, pool }
    }

    /// Adds a service.
    pub(crate) fn add<S>(self, service: S) -> Self
    where
        S: Service<axum::http::Request<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        GrpcPort { routes: self.routes.add_service(service), ..self }
    }

    /// A router for gRPC and REST on one port: requests with a content type of gRPC go to the services, all
    /// others to `rest`.
    pub(crate) fn beside(self, rest: Router) -> Router {
        let grpc = Grpc { router: self.routes.into_axum_router(), pool: self.pool };
        rest.layer(from_fn_with_state(grpc, split))
    }
}

#[derive(Clone)]
struct Grpc {
    router: Router,
    pool: &'static DescriptorPool,
}

async fn split(State(grpc): State<Grpc>, request: Request, next: Next) -> Response {
    let kind = request.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return next.run(request).await;
    }
    if let Some(text) = unknown_method(grpc.pool, request.uri().path()) {
        return Status::unimplemented(text).into_http();
    }
    match grpc.router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The error text for a method that one of our services does not have.
fn unknown_method(pool: &DescriptorPool, path: &str) -> Option<String> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let known = pool.get_service_by_name(service)?;
    let missing = known.methods().all(|known| known.name() != method);
    missing.then(|| format!("unknown method {method} for service {service}"))
}
