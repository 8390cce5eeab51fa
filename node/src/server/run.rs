//! A node from its start to its end, in the order in which things must come and go.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_raft::{Config, PeerAddr, Replica};
use limes_routing::NodeAddrs;
use limes_wire::Code;
use limes_wire::frame::{GoAway, Role};
use limes_wire::limits::LINGER;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::accept::bind;
use crate::config::{Addr, NodeConfig};
use crate::consensus::{departure as leaving, leader_log as leader};
use crate::limits::{descriptors as files, memory as pressure};
use crate::mesh::keep_links;
use crate::node::Node;
use crate::presence::Applier;
use crate::router::message::Mail;
use crate::server::quorum_watch as isolation;
use crate::telemetry::metrics as status;
use crate::{accept, compat, presence, tasks};

/// Connections of other nodes that may wait for Raft's server.
const RAFT_WAITING: usize = 64;
/// How long removals of closed sessions may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long connections may take to end whose sessions have left: more than a client of the reference that closes
/// may wait for its last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(7);

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
    files::raise();
    let edge_tls = accept::tls("edges", &config.edgebound.listen.tls)?;
    let service_tls = accept::tls("services", &config.servicebound.listen.tls)?;
    let bypass = crate::transport::passthrough::Passthrough::of(&config.edgebound)
        .map_err(|error| io::Error::other(format!("cannot set up TLS for the bypass: {error}")))?;
    let edges = bind("edges", &config.edgebound.listen.addr.to_string()).await?;
    let services = bind("services", &config.servicebound.listen.addr.to_string()).await?;
    let mesh = bind("nodes", &config.cluster.listen.addr.to_string()).await?;
    let metrics = bind("metrics", &config.metrics.listen.addr.to_string()).await?;
    let control = compat::bind(&config).await?;
    let node = Node::new(config.clone());
    if let Some(bypass) = bypass {
        let _ = node.bypass.set(bypass);
    }
    let (raft_io, incoming) = mpsc::channel(RAFT_WAITING);
    let spawn = |work| tasks::vital(tasks::Kind::Listener, work);
    spawn(
        Box::pin(status::serve(node.clone(), metrics)) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
    );
    spawn(Box::pin(accept::serve_mesh(node.clone(), mesh, raft_io)));
    control.serve(&node);
    tokio::pin!(shutdown);
    let started = Replica::start(raft_config(&config), incoming, Arc::new(Applier(node.clone())));
    let replica = tokio::select! {
        started = started => started?,
        () = &mut shutdown => {
            info!("stopped before the cluster was found");
            return Ok(());
        }
    };
    node.attach(replica.clone());
    presence::start(&node);
    tasks::vital(tasks::Kind::Mesh, keep_links(node.clone()));
    tasks::vital(tasks::Kind::Control, isolation::watch(node.clone()));
    tasks::vital(tasks::Kind::Control, leader::watch(node.clone()));
    tasks::vital(tasks::Kind::Control, pressure::watch(node.clone()));
    tokio::select! {
        () = ready(&node, &replica) => {}
        why = replica.failed() => return Err(StartError::Failed(why)),
        () = &mut shutdown => {
            replica.shutdown().await;
            return Ok(());
        }
    }
    let accept = [
        spawn(Box::pin(accept::serve_peers(node.clone(), edges, Role::Edge, edge_tls))),
        spawn(Box::pin(accept::serve_peers(node.clone(), services, Role::Service, service_tls))),
    ];
    leaving::say(&replica, false).await;
    announce(&node, &replica);
    tokio::select! {
        () = shutdown => {}
        // Its peers notice at once, for its sockets close; nothing that it says now could be relied on.
        why = replica.failed() => return Err(StartError::Failed(why)),
    }
    accept.iter().for_each(tokio::task::JoinHandle::abort);
    leave(&node, &replica).await;
    Ok(())
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
async fn ready(node: &Node, replica: &Replica) {
    while replica.wait_up(Duration::from_secs(5)).await.is_err() {
        warn!(node = node.name(), leader = ?replica.leader(), "waiting for a quorum");
    }
    while !node.is_ready() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// The one line on stdout that scripts wait for.
fn announce(node: &Node, replica: &Replica) {
    let status = replica.status();
    let leader = replica.read(|tables| {
        let row = tables.members().find(|member| Some(member.node) == status.leader);
        row.map_or_else(|| "unknown".to_owned(), |row| row.name.clone())
    });
    let cluster = limes_raft::hex(&node.cluster());
    println!(
        "ready: {} member {} cluster {cluster} leader {leader} term {}",
        node.name(),
        status.node.0,
        status.term
    );
}

/// Unready, go-away to all, finish what is in flight, leave the tables, hand over, stop.
async fn leave(node: &Arc<Node>, replica: &Replica) {
    info!(sessions = node.sessions.len(), "leaving");
    node.drain();
    leaving::say(replica, true).await;
    let grace = node.config.cluster.drain_grace;
    let until = Instant::now() + grace;
    for (_, entry) in node.sessions.all() {
        let role = if entry.who.is_edge() { Role::Edge } else { Role::Service };
        let mut goaway = GoAway::new(Code::DRAINING, "this node is stopping; go to another");
        goaway.peers = node.elsewhere(role);
        entry.outbox.push_always(Mail::Retire(goaway, until));
    }
    let empty = async {
        while node.sessions.len() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(grace, empty).await.is_err() {
        warn!(sessions = node.sessions.len(), "closing sessions that did not finish in time");
    }
    // Whoever has left may still wait for answers, which need this node's tables.
    let ended = async {
        while !node.connections.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = timeout(LAST_ANSWERS.min(until.saturating_duration_since(Instant::now())), ended).await;
    let _ = timeout(LAST_WORDS, presence::settled(node)).await;
    replica.shutdown().await;
    // A socket that is closed while its peer still sends is reset, and our good-bye, which says what was
    // not read, may be lost with it.
    node.connections.close();
    if timeout(LINGER, node.connections.wait()).await.is_err() {
        warn!(connections = node.connections.len(), "leaving connections that their peers do not close");
    }
    info!("left");
}
