//! The reference's APIs for clients and scripts beside the data plane: its control plane and its
//! directory, each gRPC and REST on one port. Any node answers for the whole cluster.
//!
//! [`control`] and [`discovery`] translate requests to operations of [`crate::control`] and to reads of the
//! tables behind a read barrier. [`rest`] offers their gRPC methods over HTTP: by the descriptors of
//! `limes-api` it decodes a query string as a request and writes the answer as JSON.

mod control;
mod discovery;
mod list;
mod rest;

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::config::NodeConfig;
use crate::control::descriptors;
use crate::control::grpc::{GrpcPort, REQUEST_MAX};
use crate::control::operations::Operations;
use crate::control::reader::Reader;
use crate::control::service::Limes;
use crate::node::Node;
use crate::telemetry::port::Port;
use crate::{accept, tasks};
use limes_api::control::control_plane_server::ControlPlaneServer;
use limes_api::discovery::cluster_service_server::ClusterServiceServer;
use limes_api::discovery::health_server::HealthServer;
use limes_api::v1::limes_server::LimesServer;

/// The listeners that are switched on.
pub(crate) struct Bound {
    control: Option<TcpListener>,
    discovery: Option<TcpListener>,
}

/// Binds what is switched on.
///
/// # Errors
/// An address is not to be had.
pub(crate) async fn bind(config: &NodeConfig) -> io::Result<Bound> {
    let mut bound = Bound { control: None, discovery: None };
    if config.controlplane.enable {
        bound.control = Some(accept::bind("operators", &config.controlplane.listen.addr).await?);
    }
    if config.discovery.enable {
        bound.discovery = Some(accept::bind("discovery", &config.discovery.listen.addr).await?);
    }
    Ok(bound)
}

impl Bound {
    /// Serves until the runtime ends.
    pub(crate) fn serve(self, node: &Arc<Node>) {
        if let Some(listener) = self.control {
            tasks::vital(tasks::Kind::Listener, serve_control(node.clone(), listener));
        }
        if let Some(listener) = self.discovery {
            tasks::vital(tasks::Kind::Listener, serve_discovery(node.clone(), listener));
        }
    }
}

/// Serves the control plane until the task is dropped.
async fn serve_control(node: Arc<Node>, listener: TcpListener) {
    let read_only = node.config.controlplane.read_only;
    let operations = Arc::new(Operations::new(Reader::new(node.clone()), read_only));
    let control = Arc::new(control::Control::new(operations.clone()));
    let rest = control::rest(control.clone());
    let pool = descriptors::control_pool();
    let grpc = GrpcPort::new(node.clone(), pool, limes_api::CONTROL_DESCRIPTORS)
        .add(LimesServer::new(Limes::new(operations)).max_decoding_message_size(REQUEST_MAX))
        .add(ControlPlaneServer::from_arc(control).max_decoding_message_size(REQUEST_MAX));
    accept::serve_http(node, Port::Control, listener, grpc.beside(rest)).await;
}

/// Serves the directory until the task is dropped.
async fn serve_discovery(node: Arc<Node>, listener: TcpListener) {
    let upstream = node.config.discovery.upstream.as_ref();
    let discovery = match discovery::Discovery::new(Reader::new(node.clone()), upstream) {
        Ok(discovery) => Arc::new(discovery),
        Err(error) => {
            return tracing::error!(%error, "discovery is not served: discovery.upstream is not an address");
        }
    };
    let rest = discovery::rest(discovery.clone());
    let pool = descriptors::discovery_pool();
    let grpc = GrpcPort::new(node.clone(), pool, limes_api::DISCOVERY_DESCRIPTORS)
        .add(ClusterServiceServer::from_arc(discovery.clone()).max_decoding_message_size(REQUEST_MAX))
        .add(HealthServer::from_arc(discovery).max_decoding_message_size(REQUEST_MAX));
    accept::serve_http(node, Port::Discovery, listener, grpc.beside(rest)).await;
}
