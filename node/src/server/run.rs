//! A node from start to stop: the order in which its parts start and stop.
//!
//! Start:
//! 1. bind every port, so that a taken address is reported before anything runs;
//! 2. serve the metrics, the mesh port and the operators' ports: Raft needs the mesh port;
//! 3. start the replica, which finds or founds the cluster;
//! 4. start the background tasks, which use the replica;
//! 5. wait for the quorum, then accept edges and services, and print the ready line.
//!
//! Stop: [`drain::leave`], then every task that is left ends ([`Tasks::stop`]).

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use limes_raft::Replica;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::assemble::Components;
use super::memory_watch::MemoryWatch;
use super::ports::Ports;
use super::quorum_watch::QuorumWatch;
use super::{drain, raft_config};
use crate::accept::nodes;
use crate::config::NodeConfig;
use crate::consensus::{departure, leader_log};
use crate::control::status;
use crate::limits::descriptors;
use crate::mesh::dialer::keep_links;
use crate::presence;
use crate::presence::applier::Applier;
use crate::tasks::{Kind, Tasks};

/// Connections of other nodes that may wait for Raft's server.
const RAFT_BACKLOG: usize = 64;
/// How long the tasks that are left at the end may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a node that waits for a quorum logs that it does.
const WAIT_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// Why a node could not start or continue.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound, or a TLS file cannot be used.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The Raft member could not start.
    #[error(transparent)]
    Raft(#[from] limes_raft::StartError),
    /// The node ran, and its Raft member failed.
    #[error("this node stops: {0}")]
    Failed(String),
}

/// Runs a node until `shutdown` is ready, then drains it. Prints one ready line on stdout.
///
/// # Errors
/// [`StartError`]. No task of the node runs any more when it is returned.
///
/// # Cancel safety
/// Dropping the future leaves the node's tasks running.
pub async fn run(config: NodeConfig, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let config = Arc::new(config);
    descriptors::raise();
    let ports = Ports::bind(&config).await?;
    let node = Components::new(config);
    let outcome = serve(&node, ports, shutdown).await;
    node.tasks.stop(STOP_TIMEOUT).await;
    outcome
}

/// Starts the parts one after the other, serves, and drains.
async fn serve(
    node: &Components,
    ports: Ports,
    shutdown: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let (raft_io, incoming) = mpsc::channel(RAFT_BACKLOG);
    let status = status::serve(node.status_page(), node.http.clone(), ports.metrics);
    node.tasks.spawn_critical(Kind::Listener, status);
    node.tasks.spawn_critical(Kind::Listener, nodes::serve(node.node_port(), ports.mesh, raft_io));
    ports.operators.serve(node.operator_ports(), &node.tasks);
    tokio::pin!(shutdown);
    let observer = Arc::new(Applier(node.presence.clone()));
    let replica = tokio::select! {
        started = Replica::start(raft_config(&node.config, node.telemetry.metrics.raft()), incoming, observer) => started?,
        () = &mut shutdown => {
            info!("stopped before the cluster was found");
            return Ok(());
        }
    };
    node.consensus.attach(replica.clone());
    start_background(node, &replica);
    tokio::select! {
        () = ready(node, &replica) => {}
        why = replica.failed() => return Err(StartError::Failed(why.to_string())),
        () = &mut shutdown => {
            replica.shutdown().await;
            return Ok(());
        }
    }
    let accepting = node.tasks.group();
    accept(node, &accepting, [ports.edges, ports.services]);
    departure::announce(&replica, false).await;
    announce_ready(node, &replica);
    tokio::select! {
        () = shutdown => {}
        // The sockets close now, so peers notice at once; an announcement could not be committed.
        why = replica.failed() => return Err(StartError::Failed(why.to_string())),
    }
    drain::leave(node, &replica, &accepting).await;
    Ok(())
}

/// Starts the tasks that need the replica and run for as long as the node does.
fn start_background(node: &Components, replica: &Replica) {
    let tasks = &node.tasks;
    presence::start(&node.presence, replica, tasks);
    tasks.spawn_critical(Kind::Dialer, keep_links(node.mesh.clone()));
    let watch = QuorumWatch {
        cluster: node.config.cluster.clone(),
        consensus: node.consensus.clone(),
        replica: replica.clone(),
        sessions: node.sessions.clone(),
        peers: node.peers.clone(),
    };
    tasks.spawn_critical(Kind::QuorumWatch, watch.run());
    let (leader, consensus) = (replica.clone(), node.consensus.clone());
    let heartbeat = node.config.cluster.heartbeat;
    tasks.spawn_restarting(Kind::LeaderLog, move || {
        leader_log::watch(leader.clone(), consensus.clone(), heartbeat)
    });
    let telemetry = node.telemetry.clone();
    tasks.spawn_restarting(Kind::MetricsUpkeep, move || {
        let telemetry = telemetry.clone();
        async move { telemetry.metrics.upkeep().await }
    });
    if let Some(watch) = MemoryWatch::new(node.config.limits.memory, &node.memory, &node.sessions) {
        tasks.spawn_restarting(Kind::MemoryWatch, move || watch.clone().run());
    }
}

/// Starts the listeners of edges and services.
fn accept(node: &Components, accepting: &Tasks, ports: [super::ports::PeerListener; 2]) {
    for port in ports {
        let (port, listener) = port.into_port(node);
        accepting.spawn_critical(Kind::Listener, port.serve(listener));
    }
}

/// Waits until this node is up in the tables and has the quorum; logs now and then that it waits.
async fn ready(node: &Components, replica: &Replica) {
    while replica.wait_up(WAIT_LOG_INTERVAL).await.is_err() {
        warn!(node = node.config.cluster.name, leader = ?replica.leader(), "waiting for a quorum");
    }
    node.consensus.wait_ready().await;
}

/// Prints the line on stdout that scripts wait for.
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
