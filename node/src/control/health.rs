//! `grpc.health.v1.Health`: whether this node serves.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::consensus::handle::Consensus;

/// Interval at which a watch checks the state.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The health service of one port: all its services have the health of the node.
pub(super) struct NodeHealth {
    consensus: Consensus,
    /// Full names of the port's services.
    services: Vec<String>,
}

impl NodeHealth {
    pub(super) fn new(consensus: Consensus, services: Vec<String>) -> Self {
        NodeHealth { consensus, services }
    }

    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.iter().any(|known| known == service)
    }
}

fn status(consensus: &Consensus) -> HealthCheckResponse {
    let status = if is_serving(consensus) { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status as i32 }
}

/// Whether the node has a quorum and is not draining.
pub(crate) fn is_serving(consensus: &Consensus) -> bool {
    consensus.is_ready() && !consensus.is_draining()
}

#[tonic::async_trait]
impl Health for NodeHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if self.knows(&request.into_inner().service) {
            Ok(Response::new(status(&self.consensus)))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Streams the state now and each time it changes.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !self.knows(&request.into_inner().service) {
            let unknown = HealthCheckResponse { status: ServingStatus::Unknown as i32 };
            return Ok(Response::new(stream::iter([Ok(unknown)]).chain(stream::pending()).boxed()));
        }
        let changes = stream::unfold((self.consensus.clone(), None), |(consensus, last)| async move {
            loop {
                let now = status(&consensus);
                if last != Some(now) {
                    return Some((Ok(now), (consensus, Some(now))));
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}
