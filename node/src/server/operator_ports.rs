//! The ports of operators: the control plane and the directory, each gRPC and REST on one port.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::accept;
use crate::accept::http::HttpServer;
use crate::compat::{control, discovery};
use crate::config::NodeConfig;
use crate::consensus::handle::Consensus;
use crate::control::descriptors;
use crate::control::grpc::{GrpcPort, REQUEST_MAX};
use crate::control::operations::Operations;
use crate::control::reader::Reader;
use crate::control::service::Limes;
use crate::presence::Presence;
use crate::router::context::Router;
use crate::router::edge_methods::EdgeMethods;
use crate::router::peers::PeerTable;
use crate::tasks::{Kind, Tasks};
use crate::telemetry::port::Port;
use limes_api::control::control_plane_server::ControlPlaneServer;
use limes_api::discovery::cluster_service_server::ClusterServiceServer;
use limes_api::discovery::health_server::HealthServer;
use limes_api::v1::limes_server::LimesServer;

/// The listeners of the enabled ports.
pub(super) struct OperatorPorts {
    control: Option<TcpListener>,
    discovery: Option<TcpListener>,
}

/// The handles that both ports use.
pub(super) struct OperatorContext {
    /// The node's settings.
    pub(super) config: Arc<NodeConfig>,
    /// The replica.
    pub(super) consensus: Consensus,
    /// Knows which edges are in their reconnect grace.
    pub(super) router: Arc<Router>,
    /// Keeps the changes that watches read.
    pub(super) presence: Arc<Presence>,
    /// The methods of edges on this node.
    pub(super) edge_methods: Arc<EdgeMethods>,
    /// The other nodes.
    pub(super) peers: Arc<PeerTable>,
    /// Serves HTTP.
    pub(super) http: Arc<HttpServer>,
}

impl OperatorContext {
    /// A reader of the tables for one port.
    fn reader(&self) -> Reader {
        Reader::new(self.consensus.clone(), self.config.cluster.timing().no_quorum_after())
    }
}

impl OperatorPorts {
    /// Binds the enabled ports.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub(super) async fn bind(config: &NodeConfig) -> io::Result<Self> {
        let mut ports = OperatorPorts { control: None, discovery: None };
        if config.controlplane.enable {
            ports.control = Some(accept::bind("operators", &config.controlplane.listen.addr).await?);
        }
        if config.discovery.enable {
            ports.discovery = Some(accept::bind("discovery", &config.discovery.listen.addr).await?);
        }
        Ok(ports)
    }

    /// Starts a task for each port, which serves until the tasks are stopped.
    pub(super) fn serve(self, context: OperatorContext, tasks: &Tasks) {
        let context = Arc::new(context);
        if let Some(listener) = self.control {
            tasks.spawn_critical(Kind::Listener, serve_control(context.clone(), listener));
        }
        if let Some(listener) = self.discovery {
            let upstream = context.config.discovery.upstream.as_ref();
            match discovery::Discovery::new(context.reader(), context.router.clone(), upstream) {
                Ok(discovery) => {
                    tasks.spawn_critical(Kind::Listener, serve_discovery(context, discovery, listener));
                }
                Err(error) => {
                    tracing::error!(%error, "discovery is not served: discovery.upstream is not an address");
                }
            }
        }
    }
}

/// Serves `limes.v1` and the reference's control plane until the task is dropped.
async fn serve_control(context: Arc<OperatorContext>, listener: TcpListener) {
    let read_only = context.config.controlplane.read_only;
    let (edge_methods, peers) = (context.edge_methods.clone(), context.peers.clone());
    let operations = Arc::new(Operations::new(context.reader(), edge_methods, peers, read_only));
    let control = Arc::new(control::Control::new(operations.clone()));
    let rest = control::rest(control.clone());
    let limes = Limes::new(operations, context.config.cluster.name.clone(), context.presence.clone());
    let (consensus, pool) = (context.consensus.clone(), descriptors::control_pool());
    let grpc = GrpcPort::new(consensus, pool, limes_api::CONTROL_DESCRIPTORS)
        .add(LimesServer::new(limes).max_decoding_message_size(REQUEST_MAX))
        .add(ControlPlaneServer::from_arc(control).max_decoding_message_size(REQUEST_MAX));
    context.http.clone().serve(Port::Control, listener, grpc.beside(rest)).await;
}

/// Serves the directory until the task is dropped.
async fn serve_discovery(
    context: Arc<OperatorContext>,
    discovery: discovery::Discovery,
    listener: TcpListener,
) {
    let discovery = Arc::new(discovery);
    let rest = discovery::rest(discovery.clone());
    let (consensus, pool) = (context.consensus.clone(), descriptors::discovery_pool());
    let grpc = GrpcPort::new(consensus, pool, limes_api::DISCOVERY_DESCRIPTORS)
        .add(ClusterServiceServer::from_arc(discovery.clone()).max_decoding_message_size(REQUEST_MAX))
        .add(HealthServer::from_arc(discovery).max_decoding_message_size(REQUEST_MAX));
    context.http.clone().serve(Port::Discovery, listener, grpc.beside(rest)).await;
}
