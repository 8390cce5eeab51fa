//! A node from its start to its end, in the order in which things must come and go.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use limes_raft::{Config, PeerAddr, Replica};
use limes_routing::NodeAddrs;
use limes_wire::frame::Role;
use limes_wire::transport::tls::TlsServer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::assemble::Components;
use super::operator_ports::OperatorPorts;
use super::quorum_watch::QuorumWatch;
use super::{drain, memory_watch};
use crate::accept::peers::{PeerPort, tls};
use crate::accept::{self, bind, nodes};
use crate::config::{Addr, NodeConfig};
use crate::consensus::{departure, leader_log};
use crate::control::status;
use crate::limits::descriptors;
use crate::mesh::dialer::keep_links;
use crate::presence::applier::Applier;
use crate::transport::passthrough::Passthrough;
use crate::{presence, tasks};

/// Connections of other nodes that may wait for Raft's server.
const RAFT_WAITING: usize = 64;
/// Why a node could not start, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is not to be had.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The member could not start.
    #[error(transparent)]
    Raft(#[from] limes_raft::StartError),
    /// It ran, and cannot go on.
    #[error("this node stops: {0}")]
    Failed(String),
}

/// Runs a node until `shutdown` is ready, then drains and leaves. Prints one ready line on stdout.
///
/// # Errors
/// [`StartError`], in one line: nothing runs any more when it is returned.
pub async fn run(config: NodeConfig, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let config = Arc::new(config);
    descriptors::raise();
    let ports = Ports::bind(&config).await?;
    let node = Components::new(config.clone());
    let (raft_io, incoming) = mpsc::channel(RAFT_WAITING);
    let status = status::serve(node.status_page(), node.http.clone(), ports.metrics);
    tasks::vital(tasks::Kind::Listener, status);
    tasks::vital(tasks::Kind::Listener, nodes::serve(node.node_port(), ports.mesh, raft_io));
    ports.operators.serve(node.operator_ports());
    tokio::pin!(shutdown);
    let observer = Arc::new(Applier(node.presence.clone()));
    let replica = tokio::select! {
        started = Replica::start(raft_config(&config), incoming, observer) => started?,
        () = &mut shutdown => {
            info!("stopped before the cluster was found");
            return Ok(());
        }
    };
    node.consensus.attach(replica.clone());
    start_tasks(&node);
    tokio::select! {
        () = ready(&node, &replica) => {}
        why = replica.failed() => return Err(StartError::Failed(why.to_string())),
        () = &mut shutdown => {
            replica.shutdown().await;
            return Ok(());
        }
    }
    let accept = [ports.edges.serve(&node), ports.services.serve(&node)];
    departure::announce(&replica, false).await;
    announce_ready(&node, &replica);
    tokio::select! {
        () = shutdown => {}
        // Its peers notice at once, for its sockets close; nothing that it announced now could be relied on.
        why = replica.failed() => return Err(StartError::Failed(why.to_string())),
    }
    accept.iter().for_each(tokio::task::JoinHandle::abort);
    drain::leave(&node, &replica).await;
    Ok(())
}

/// The listeners of a node, bound before anything else starts.
struct Ports {
    edges: BoundPort,
    services: BoundPort,
    mesh: TcpListener,
    metrics: TcpListener,
    operators: OperatorPorts,
}

/// A port of edges or services.
struct BoundPort {
    role: Role,
    listener: TcpListener,
    tls: Option<TlsServer>,
    passthrough: Option<Arc<Passthrough>>,
}

impl Ports {
    async fn bind(config: &NodeConfig) -> Result<Self, StartError> {
        let edge_tls = tls("edges", &config.edgebound.listen.tls)?;
        let service_tls = tls("services", &config.servicebound.listen.tls)?;
        let passthrough = Passthrough::of(&config.edgebound)
            .map_err(|error| io::Error::other(format!("cannot set up TLS for the bypass: {error}")))?;
        let edges = bind("edges", &config.edgebound.listen.addr.to_string()).await?;
        let services = bind("services", &config.servicebound.listen.addr.to_string()).await?;
        Ok(Ports {
            edges: BoundPort {
                role: Role::Edge,
                listener: edges,
                tls: edge_tls,
                passthrough: passthrough.map(Arc::new),
            },
            services: BoundPort {
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

impl BoundPort {
    fn serve(self, node: &Components) -> tokio::task::JoinHandle<()> {
        let BoundPort { role, listener, tls, passthrough } = self;
        let port = PeerPort {
            role,
            tls,
            ctx: node.session.clone(),
            descriptors: node.descriptors.clone(),
            connections: node.connections.clone(),
            passthrough,
        };
        tasks::vital(tasks::Kind::Listener, port.serve(listener))
    }
}

/// Starts the background tasks that need the replica.
fn start_tasks(node: &Components) {
    presence::start(&node.presence);
    tasks::vital(tasks::Kind::Mesh, keep_links(node.mesh.clone()));
    let watch = QuorumWatch {
        cluster: node.config.cluster.clone(),
        consensus: node.consensus.clone(),
        sessions: node.sessions.clone(),
        peers: node.peers.clone(),
    };
    tasks::vital(tasks::Kind::Control, watch.run());
    let leader = leader_log::watch(node.consensus.clone(), node.config.cluster.heartbeat);
    tasks::vital(tasks::Kind::Control, leader);
    let mark = node.config.limits.memory;
    let memory = memory_watch::run(mark, node.memory.clone(), node.sessions.clone());
    tasks::vital(tasks::Kind::Control, memory);
}

/// What the settings mean to the member.
pub(crate) fn raft_config(config: &NodeConfig) -> Config {
    let addresses = config.addresses();
    // As the reference does it: an address that nobody could dial is not told.
    let told = |what: &str, addr: &Addr| {
        let addr = addr.clone().dialable(accept::own_address);
        if addr.is_unspecified() {
            warn!(%addr, "others are told an address that they cannot dial; set {what}.listen.advertised_addr");
        }
        addr.to_string()
    };
    let mut initial: Vec<PeerAddr> = config
        .cluster
        .initial
        .iter()
        .map(|member| PeerAddr { name: member.name.clone(), addr: member.addr.to_string() })
        .collect();
    if initial.is_empty() {
        initial.push(PeerAddr { name: config.cluster.name.clone(), addr: addresses.mesh.to_string() });
    }
    Config {
        dir: config.data.clone(),
        name: config.cluster.name.clone(),
        addrs: NodeAddrs {
            mesh: addresses.mesh.to_string(),
            edges: told("edgebound", &addresses.edges),
            services: told("servicebound", &addresses.services),
            control: told("controlplane", &addresses.control),
        },
        initial,
        timing: config.cluster.timing(),
        metrics: limes_raft::RaftMetrics::default(),
    }
}

/// Waits until this node is up in the tables; says now and then what it waits for.
async fn ready(node: &Components, replica: &Replica) {
    while replica.wait_up(Duration::from_secs(5)).await.is_err() {
        warn!(node = node.config.cluster.name, leader = ?replica.leader(), "waiting for a quorum");
    }
    node.consensus.wait_ready().await;
}

/// The one line on stdout that scripts wait for.
fn announce_ready(node: &Components, replica: &Replica) {
    let status = replica.status();
    let leader = replica.read(|tables| {
        let row = tables.members().find(|member| Some(member.node) == status.leader);
        row.map_or_else(|| "unknown".to_owned(), |row| row.name.clone())
    });
    let cluster = limes_raft::hex(&replica.cluster());
    println!(
        "ready: {} member {} cluster {cluster} leader {leader} term {}",
        node.config.cluster.name, status.node.0, status.term
    );
}
