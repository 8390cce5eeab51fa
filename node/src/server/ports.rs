//! The ports of a node, bound before anything else starts.

use std::io;
use std::sync::Arc;

use limes_wire::frame::Role;
use limes_wire::transport::tls::TlsServer;
use tokio::net::TcpListener;

use super::assemble::Components;
use super::operator_ports::OperatorPorts;
use crate::accept::bind;
use crate::accept::peers::{PeerPort, tls};
use crate::config::NodeConfig;
use crate::transport::passthrough::Passthrough;

/// The listeners of a node.
pub(super) struct Ports {
    /// For edges.
    pub(super) edges: PeerListener,
    /// For services.
    pub(super) services: PeerListener,
    /// For other nodes.
    pub(super) mesh: TcpListener,
    /// For metrics.
    pub(super) metrics: TcpListener,
    /// For the control plane and the directory.
    pub(super) operators: OperatorPorts,
}

/// The listener of edges or services.
pub(super) struct PeerListener {
    role: Role,
    listener: TcpListener,
    tls: Option<TlsServer>,
    passthrough: Option<Arc<Passthrough>>,
}

impl Ports {
    /// Binds every port.
    ///
    /// # Errors
    /// In one line, which address cannot be bound or which TLS file cannot be used.
    pub(super) async fn bind(config: &NodeConfig) -> io::Result<Self> {
        let edge_tls = tls("edges", &config.edgebound.listen.tls)?;
        let service_tls = tls("services", &config.servicebound.listen.tls)?;
        let passthrough = Passthrough::of(&config.edgebound)
            .map_err(|error| io::Error::other(format!("cannot set up TLS for the bypass: {error}")))?;
        let edges = bind("edges", &config.edgebound.listen.addr.to_string()).await?;
        let services = bind("services", &config.servicebound.listen.addr.to_string()).await?;
        Ok(Ports {
            edges: PeerListener {
                role: Role::Edge,
                listener: edges,
                tls: edge_tls,
                passthrough: passthrough.map(Arc::new),
            },
            services: PeerListener {
                role: Role::Service,
                listener: services,
                tls: service_tls,
                passthrough: None,
            },
            mesh: bind("nodes", &config.cluster.listen.addr.to_string()).await?,
            metrics: bind("metrics", &config.metrics.listen.addr.to_string()).await?,
            operators: OperatorPorts::bind(config).await?,
        })
    }
}

impl PeerListener {
    /// The port that serves this listener's connections.
    pub(super) fn into_port(self, node: &Components) -> (PeerPort, TcpListener) {
        let PeerListener { role, listener, tls, passthrough } = self;
        let port = PeerPort {
            role,
            tls,
            ctx: node.session.clone(),
            descriptors: node.descriptors.clone(),
            connections: node.connections.clone(),
            passthrough,
        };
        (port, listener)
    }
}
