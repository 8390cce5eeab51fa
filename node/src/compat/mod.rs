//! What clients and scripts of the reference ask beside the data plane: its control plane and its
//! directory, each gRPC and REST on one port, answered by any node for the whole cluster.
//!
//! [`control`] and [`discovery`] compute the answers from this node's tables, behind a read barrier
//! ([`reader`]). [`rest`] is the other way in to the same calls: a query becomes a request by the
//! descriptors of `limes-api`, an answer becomes JSON by them. [`grpc`] has what every gRPC server is expected
//! to have.

mod control;
mod descriptors;
mod discovery;
mod grpc;
mod health;
mod list;
mod rest;

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::accept::http::HttpServer;
use crate::config::NodeConfig;
use crate::consensus::handle::Consensus;
use crate::control::Limes;
use crate::control::reader::Reader;
use crate::presence::Presence;
use crate::router::context::Router;
use crate::router::edge_methods::EdgeMethods;
use crate::router::peers::PeerTable;
use crate::telemetry::port::Port;
use crate::{accept, tasks};
use limes_api::control::control_plane_server::ControlPlaneServer;
use limes_api::discovery::cluster_service_server::ClusterServiceServer;
use limes_api::discovery::health_server::HealthServer;
use limes_api::v1::limes_server::LimesServer;

/// Largest request that is taken, in bytes: the largest of honest ones name some hundred edges.
const REQUEST_MAX: usize = 256 << 10;

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

/// What both listeners use.
pub(crate) struct CompatContext {
    /// The node's settings.
    pub(crate) config: Arc<NodeConfig>,
    /// The replica.
    pub(crate) consensus: Consensus,
    /// Knows which edges are expected to reconnect.
    pub(crate) router: Arc<Router>,
    /// Keeps the changes that watchers read.
    pub(crate) presence: Arc<Presence>,
    /// The methods of edges on this node.
    pub(crate) edge_methods: Arc<EdgeMethods>,
    /// The other nodes.
    pub(crate) peers: Arc<PeerTable>,
    /// Serves HTTP.
    pub(crate) http: Arc<HttpServer>,
}

impl CompatContext {
    fn reader(&self) -> Reader {
        Reader::new(self.consensus.clone(), self.config.cluster.timing().no_quorum_after())
    }
}

impl Bound {
    /// Serves until the runtime ends.
    pub(crate) fn serve(self, context: CompatContext) {
        let context = Arc::new(context);
        if let Some(listener) = self.control {
            tasks::vital(tasks::Kind::Listener, serve_control(context.clone(), listener));
        }
        if let Some(listener) = self.discovery {
            tasks::vital(tasks::Kind::Listener, serve_discovery(context, listener));
        }
    }
}

/// Serves the control plane until the task is dropped.
async fn serve_control(context: Arc<CompatContext>, listener: TcpListener) {
    let read_only = context.config.controlplane.read_only;
    let (edge_methods, peers) = (context.edge_methods.clone(), context.peers.clone());
    let control = Arc::new(control::Control::new(context.reader(), edge_methods, peers, read_only));
    let rest = control::rest(control.clone());
    let name = context.config.cluster.name.clone();
    let limes = Limes::new(context.reader(), name, context.presence.clone());
    let consensus = context.consensus.clone();
    let grpc = grpc::Surface::new(consensus, descriptors::control_pool(), limes_api::CONTROL_DESCRIPTORS)
        .add(LimesServer::new(limes).max_decoding_message_size(REQUEST_MAX))
        .add(ControlPlaneServer::from_arc(control).max_decoding_message_size(REQUEST_MAX));
    context.http.clone().serve(Port::Control, listener, grpc.beside(rest)).await;
}

/// Serves the directory until the task is dropped.
async fn serve_discovery(context: Arc<CompatContext>, listener: TcpListener) {
    let upstream = context.config.discovery.upstream.as_ref();
    let discovery = discovery::Discovery::new(context.reader(), context.router.clone(), upstream);
    let discovery = match discovery {
        Ok(discovery) => Arc::new(discovery),
        Err(error) => {
            return tracing::error!(%error, "discovery is not served: discovery.upstream is no address");
        }
    };
    let rest = discovery::rest(discovery.clone());
    let consensus = context.consensus.clone();
    let grpc = grpc::Surface::new(consensus, descriptors::discovery_pool(), limes_api::DISCOVERY_DESCRIPTORS)
        .add(ClusterServiceServer::from_arc(discovery.clone()).max_decoding_message_size(REQUEST_MAX))
        .add(HealthServer::from_arc(discovery).max_decoding_message_size(REQUEST_MAX));
    context.http.clone().serve(Port::Discovery, listener, grpc.beside(rest)).await;
}
