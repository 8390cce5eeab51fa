//! The handles that mesh links use.

use std::sync::Arc;
use std::time::Duration;

use crate::consensus::handle::Consensus;
use crate::presence::Presence;
use crate::router::context::Router;
use crate::router::edge_methods::EdgeMethods;
use crate::router::edge_routes::EdgeRoutes;
use crate::router::peers::PeerTable;
use crate::router::registry::SessionRegistry;
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;

/// What the links to other nodes use.
pub(crate) struct MeshContext {
    /// The tasks of links, which end when the node stops.
    pub(crate) tasks: Tasks,
    /// This node's name.
    pub(crate) name: String,
    /// `cluster.heartbeat`.
    pub(crate) heartbeat: Duration,
    /// `cluster.down_after`.
    pub(crate) down_after: Duration,
    /// The replica: identity, applied revision, readiness.
    pub(crate) consensus: Consensus,
    /// Routes what the other node sends.
    pub(crate) router: Arc<Router>,
    /// Closes sessions that were taken over.
    pub(crate) presence: Arc<Presence>,
    /// Issues local numbers.
    pub(crate) sessions: Arc<SessionRegistry>,
    /// Routes to edges.
    pub(crate) edges: Arc<EdgeRoutes>,
    /// The links themselves.
    pub(crate) peers: Arc<PeerTable>,
    /// The methods that edges offer, for the other nodes' streams.
    pub(crate) edge_methods: Arc<EdgeMethods>,
    /// Metrics and the log limiter.
    pub(crate) telemetry: Arc<Telemetry>,
}
