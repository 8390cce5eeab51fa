//! What the parts of a running node share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use limes_raft::{BarrierError, Replica};
use limes_routing::{NodeId, NodeRow, Revision};
use limes_wire::frame::Role;
use limes_wire::{Code, limits};
use tokio_util::task::TaskTracker;

use crate::config::NodeConfig;
use crate::consensus::departure::is_leaving;
use crate::limits::descriptors::DescriptorBudget;
use crate::limits::memory::MemoryPressure;
use crate::mesh::PeerTable;
use crate::presence::Presence;
use crate::router::edge_methods::EdgeMethods;
use crate::router::edge_routes::EdgeRoutes;
use crate::router::grace::Awaited;
use crate::router::message::Failure;
use crate::router::ordering::KeyedOrder;
use crate::router::registry::SessionRegistry;
use crate::router::service_index::ServiceIndex;
use crate::telemetry::log_limit::LogLimiter;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::port::Port;
use crate::transport::passthrough::Passthrough;

/// One running node. Made before the replica, which reports to it.
pub(crate) struct Node {
    /// Its settings.
    pub(crate) config: Arc<NodeConfig>,
    /// SessionRegistry held here.
    pub(crate) sessions: SessionRegistry,
    /// Connections of edges and services, from the accept until the socket is closed.
    pub(crate) connections: TaskTracker,
    /// Routes to edges anywhere.
    pub(crate) directory: EdgeRoutes,
    /// Services anywhere.
    pub(crate) services: ArcSwap<ServiceIndex>,
    /// SessionOwner has left and is expected back.
    pub(crate) awaited: Awaited,
    /// What the edges held here say they offer.
    pub(crate) edge_methods: EdgeMethods,
    /// Where connections go that are not for us, once that is known.
    pub(crate) bypass: OnceLock<Passthrough>,
    /// The other nodes.
    pub(crate) peers: PeerTable,
    /// What turns connects into events and effects into routes.
    pub(crate) presence: Presence,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// What may be said in the log about peers that break the rules.
    pub(crate) notices: LogLimiter,
    /// Whether memory is over its mark.
    pub(crate) pressure: MemoryPressure,
    /// DescriptorBudget that peers may take.
    pub(crate) files: Arc<DescriptorBudget>,
    draining: AtomicBool,
    ready: AtomicBool,
    /// Spreads calls when the policy is random.
    pub(crate) turn: AtomicU64,
    /// Messages that look for their way.
    pub(crate) lanes: KeyedOrder,
    replica: OnceLock<Replica>,
}

impl Node {
    /// A node whose replica is not started yet.
    pub(crate) fn new(config: Arc<NodeConfig>) -> Arc<Self> {
        Arc::new(Node {
            config,
            sessions: SessionRegistry::new(),
            connections: TaskTracker::new(),
            directory: EdgeRoutes::new(),
            services: ArcSwap::default(),
            awaited: Awaited::default(),
            edge_methods: EdgeMethods::default(),
            bypass: OnceLock::new(),
            peers: PeerTable::new(),
            presence: Presence::new(),
            metrics: Metrics::default(),
            notices: LogLimiter::default(),
            pressure: MemoryPressure::default(),
            files: DescriptorBudget::of_process(),
            draining: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            lanes: KeyedOrder::default(),
            replica: OnceLock::new(),
        })
    }

    /// A peer broke a rule or crossed a limit: counts it. If a line may be written of it now, gives how
    /// many of the kind were left out before.
    pub(crate) fn cut(&self, port: Port, code: Code) -> Option<u64> {
        self.metrics.cut(port, code);
        self.notices.first(port, code, Instant::now())
    }

    /// Gives the node its replica, once.
    pub(crate) fn attach(&self, replica: Replica) {
        let _ = self.replica.set(replica);
    }

    /// The replica, once it has been started.
    pub(crate) fn replica(&self) -> Option<&Replica> {
        self.replica.get()
    }

    /// This node's name.
    pub(crate) fn name(&self) -> &str {
        &self.config.cluster.name
    }

    /// This node's member number; 0 before the replica has started.
    pub(crate) fn id(&self) -> NodeId {
        self.presence.node()
    }

    /// The cluster's id; zeros before the replica has started.
    pub(crate) fn cluster(&self) -> [u8; 16] {
        self.presence.cluster()
    }

    /// The newest revision that this node has applied.
    pub(crate) fn applied(&self) -> Revision {
        self.presence.applied()
    }

    /// Whether the node is shutting down or drained.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Takes no newcomers from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node has felt the quorum lately.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Notes whether the node feels the quorum.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Waits until this node has applied all that was committed when this was called.
    ///
    /// # Errors
    /// A failure that says "not run": there is no quorum, or the deadline passed.
    pub(crate) async fn barrier(&self, deadline: Instant) -> Result<(), Failure> {
        let replica = self.replica().ok_or_else(starting)?;
        match tokio::time::timeout_at(deadline.into(), replica.barrier()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(no_quorum(&error)),
            Err(_) => Err(Failure::not_run(Code::TIMEOUT, "the cluster did not agree in time")),
        }
    }

    /// Waits until this node has applied a revision.
    ///
    /// # Errors
    /// A failure that says "not run".
    pub(crate) async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), Failure> {
        let replica = self.replica().ok_or_else(starting)?;
        match tokio::time::timeout_at(deadline.into(), replica.wait_applied(revision)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(no_quorum(&error)),
            Err(_) => Err(Failure::not_run(Code::TIMEOUT, "this node lags behind the cluster")),
        }
    }

    /// Addresses of the other live nodes, for peers of this role.
    pub(crate) fn elsewhere(&self, role: Role) -> Vec<String> {
        let me = self.id();
        self.replica().map_or_else(Vec::new, |replica| {
            replica.read(|tables| {
                let stays = |id, row: &NodeRow| !row.down && !row.draining && !is_leaving(tables, id, row);
                let others = tables.nodes().filter(|(id, row)| *id != me && stays(*id, row));
                let addr = others.map(|(_, row)| match role {
                    Role::Edge => row.addrs.edges.clone(),
                    _ => row.addrs.services.clone(),
                });
                addr.take(limits::PEERS_MAX).collect()
            })
        })
    }
}

fn starting() -> Failure {
    Failure::not_run(Code::NO_QUORUM, "this node is still starting")
}

fn no_quorum(error: &BarrierError) -> Failure {
    Failure::not_run(Code::NO_QUORUM, format!("the cluster cannot agree now: {error}"))
}
