//! `grpc.health.v1.Health`: whether this node can serve.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::consensus::handle::Consensus;

/// How often a watched state is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The health of this node, and of the services on one port.
pub(super) struct NodeHealth {
    consensus: Consensus,
    /// Full names of what the port serves.
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

/// Whether the node feels the quorum and is not leaving.
pub(super) fn is_serving(consensus: &Consensus) -> bool {
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

    /// The state now, and each time that it changes.
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
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}
