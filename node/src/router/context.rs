//! The router's handle: what it reads to find the route of a request.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use limes_raft::Timing;

use super::edge_routes::EdgeRoutes;
use super::grace::ReconnectGrace;
use super::message::{Freshness, Request};
use super::ordering::KeyedOrder;
use super::peers::PeerTable;
use super::registry::SessionRegistry;
use super::service_index::ServiceIndex;
use super::topic_sink::TopicSink;
use crate::config::Exchange;
use crate::consensus::handle::{Consensus, ConsensusError};
use crate::limits::memory::MemoryPressure;
use crate::telemetry::Telemetry;

/// Finds routes and delivers requests; shared by all sessions and mesh links of a node.
pub(crate) struct Router {
    pub(super) consensus: Consensus,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) memory: Arc<MemoryPressure>,
    pub(super) sessions: Arc<SessionRegistry>,
    pub(super) edges: Arc<EdgeRoutes>,
    pub(super) services: Arc<ArcSwap<ServiceIndex>>,
    pub(super) sinks: Vec<Arc<dyn TopicSink>>,
    pub(super) grace: Arc<ReconnectGrace>,
    pub(super) peers: Arc<PeerTable>,
    pub(super) order: KeyedOrder,
    pub(super) exchange: Exchange,
    /// `cluster.heartbeat`.
    pub(super) heartbeat: Duration,
    pub(super) timing: Timing,
    /// Counts up, to spread calls when the policy is random.
    pub(super) turn: AtomicU64,
}

/// The parts that a [`Router`] shares with the components that keep them up to date.
pub(crate) struct RouterParts {
    /// The replica.
    pub(crate) consensus: Consensus,
    /// Metrics and the log limiter.
    pub(crate) telemetry: Arc<Telemetry>,
    /// Whether memory is over its mark.
    pub(crate) memory: Arc<MemoryPressure>,
    /// Sessions held here.
    pub(crate) sessions: Arc<SessionRegistry>,
    /// Routes to edges anywhere.
    pub(crate) edges: Arc<EdgeRoutes>,
    /// Services anywhere.
    pub(crate) services: Arc<ArcSwap<ServiceIndex>>,
    /// Bridges, asked in this order after the services.
    pub(crate) sinks: Vec<Arc<dyn TopicSink>>,
    /// Sessions that are expected to reconnect.
    pub(crate) grace: Arc<ReconnectGrace>,
    /// The other nodes and the links to them.
    pub(crate) peers: Arc<PeerTable>,
}

impl Router {
    /// A router over shared parts; `heartbeat` and `timing` come from the cluster's settings.
    pub(crate) fn new(
        parts: RouterParts,
        exchange: Exchange,
        heartbeat: Duration,
        timing: Timing,
    ) -> Arc<Self> {
        let RouterParts { consensus, telemetry, memory, sessions, edges, services, sinks, grace, peers } =
            parts;
        Arc::new(Router {
            consensus,
            telemetry,
            memory,
            sessions,
            edges,
            services,
            sinks,
            grace,
            peers,
            order: KeyedOrder::default(),
            exchange,
            heartbeat,
            timing,
            turn: AtomicU64::new(0),
        })
    }

    /// Waits until the tables are new enough.
    ///
    /// # Errors
    /// [`ConsensusError`]: no quorum, or the deadline passed.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(super) async fn refresh(
        &self,
        freshness: Freshness,
        deadline: Instant,
    ) -> Result<(), ConsensusError> {
        match freshness {
            Freshness::Barrier => self.consensus.barrier(deadline).await,
            Freshness::AtLeast(revision) => self.consensus.wait_applied(revision, deadline).await,
        }
    }

    /// Queues a message behind others of the same sender and topic that are being resolved; returns it if there are
    /// none.
    pub(crate) fn queue_behind(&self, request: Box<Request>) -> Option<Box<Request>> {
        self.order.behind(request)
    }
}
