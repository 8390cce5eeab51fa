//! Builds the components of a node, each with the handles that it uses. The only place that knows them all.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use super::operator_ports::OperatorContext;
use crate::accept::http::HttpServer;
use crate::accept::nodes::NodePort;
use crate::config::NodeConfig;
use crate::consensus::handle::Consensus;
use crate::control::status::StatusPage;
use crate::limits::descriptors::DescriptorBudget;
use crate::limits::memory::MemoryPressure;
use crate::mesh::context::MeshContext;
use crate::presence::Presence;
use crate::presence::context::{PresenceConfig, PresenceParts};
use crate::router::context::{Router, RouterParts};
use crate::router::edge_methods::EdgeMethods;
use crate::router::edge_routes::EdgeRoutes;
use crate::router::grace::ReconnectGrace;
use crate::router::peers::PeerTable;
use crate::router::registry::SessionRegistry;
use crate::router::service_index::ServiceIndex;
use crate::session::context::SessionContext;
use crate::tasks::Tasks;
use crate::telemetry::Telemetry;

/// The components of one node, before its replica is started.
pub(crate) struct Components {
    /// The tasks that end when the node stops.
    pub(crate) tasks: Tasks,
    /// The settings.
    pub(crate) config: Arc<NodeConfig>,
    /// The replica, once attached.
    pub(crate) consensus: Consensus,
    /// Metrics and the log limiter.
    pub(crate) telemetry: Arc<Telemetry>,
    /// Whether memory is over its mark.
    pub(crate) memory: Arc<MemoryPressure>,
    /// Descriptors that peers may use.
    pub(crate) descriptors: Arc<DescriptorBudget>,
    /// Sessions held here.
    pub(crate) sessions: Arc<SessionRegistry>,
    /// The other nodes.
    pub(crate) peers: Arc<PeerTable>,
    /// The methods of edges here.
    pub(crate) edge_methods: Arc<EdgeMethods>,
    /// Resolves and delivers requests.
    pub(crate) router: Arc<Router>,
    /// Keeps the tables and the routes in step with the sessions.
    pub(crate) presence: Arc<Presence>,
    /// For sessions.
    pub(crate) session: Arc<SessionContext>,
    /// For mesh links.
    pub(crate) mesh: Arc<MeshContext>,
    /// Serves HTTP on the ports of operators.
    pub(crate) http: Arc<HttpServer>,
    /// Connections of edges and services, from the accept until the socket is closed.
    pub(crate) connections: TaskTracker,
}

impl Components {
    /// Builds the components for these settings.
    pub(crate) fn new(config: Arc<NodeConfig>) -> Self {
        let shared = Shared::new();
        let router = shared.router(&config);
        let presence = shared.presence(&config, &router);
        let session = shared.session(&config, &router, &presence);
        let mesh = shared.mesh(&config, &router, &presence);
        let http = shared.http(&config);
        let Shared {
            tasks, consensus, telemetry, memory, descriptors, sessions, peers, edge_methods, ..
        } = shared;
        let connections = TaskTracker::new();
        Components {
            tasks,
            config,
            consensus,
            telemetry,
            memory,
            descriptors,
            sessions,
            peers,
            edge_methods,
            router,
            presence,
            session,
            mesh,
            http,
            connections,
        }
    }

    /// What the mesh port uses.
    pub(crate) fn node_port(&self) -> NodePort {
        NodePort {
            mesh: self.mesh.clone(),
            handshake: self.config.limits.handshake,
            stall: self.config.limits.stall,
            descriptors: self.descriptors.clone(),
        }
    }

    /// What the metrics port reads.
    pub(crate) fn status_page(&self) -> StatusPage {
        StatusPage {
            name: self.config.cluster.name.clone(),
            consensus: self.consensus.clone(),
            sessions: self.sessions.clone(),
            memory: self.memory.clone(),
            telemetry: self.telemetry.clone(),
        }
    }

    /// What the control plane and the directory use.
    pub(super) fn operator_ports(&self) -> OperatorContext {
        OperatorContext {
            config: self.config.clone(),
            consensus: self.consensus.clone(),
            router: self.router.clone(),
            presence: self.presence.clone(),
            edge_methods: self.edge_methods.clone(),
            peers: self.peers.clone(),
            http: self.http.clone(),
        }
    }
}

/// The state that several components share.
struct Shared {
    tasks: Tasks,
    consensus: Consensus,
    telemetry: Arc<Telemetry>,
    memory: Arc<MemoryPressure>,
    descriptors: Arc<DescriptorBudget>,
    sessions: Arc<SessionRegistry>,
    edges: Arc<EdgeRoutes>,
    services: Arc<ArcSwap<ServiceIndex>>,
    grace: Arc<ReconnectGrace>,
    peers: Arc<PeerTable>,
    edge_methods: Arc<EdgeMethods>,
}

impl Shared {
    fn new() -> Self {
        Shared {
            tasks: Tasks::default(),
            consensus: Consensus::default(),
            telemetry: Arc::default(),
            memory: Arc::default(),
            descriptors: DescriptorBudget::of_process(),
            sessions: Arc::new(SessionRegistry::new()),
            edges: Arc::new(EdgeRoutes::new()),
            services: Arc::default(),
            grace: Arc::default(),
            peers: Arc::new(PeerTable::new()),
            edge_methods: Arc::default(),
        }
    }

    fn router(&self, config: &NodeConfig) -> Arc<Router> {
        let parts = RouterParts {
            consensus: self.consensus.clone(),
            telemetry: self.telemetry.clone(),
            memory: self.memory.clone(),
            sessions: self.sessions.clone(),
            edges: self.edges.clone(),
            services: self.services.clone(),
            sinks: Vec::new(),
            grace: self.grace.clone(),
            peers: self.peers.clone(),
        };
        let cluster = &config.cluster;
        Router::new(parts, config.exchange.clone(), cluster.heartbeat, cluster.timing())
    }

    fn presence(&self, config: &NodeConfig, router: &Arc<Router>) -> Arc<Presence> {
        let settings = PresenceConfig {
            cluster: config.cluster.clone(),
            allot_edge_ids: config.edgebound.edgeid_alloc_when_no_idservice_on,
            names_max: config.limits.names,
            ignore_case: config.exchange.ignore_case,
        };
        let parts = PresenceParts {
            consensus: self.consensus.clone(),
            router: router.clone(),
            sessions: self.sessions.clone(),
            edges: self.edges.clone(),
            services: self.services.clone(),
            grace: self.grace.clone(),
            peers: self.peers.clone(),
            telemetry: self.telemetry.clone(),
        };
        Presence::new(settings, parts)
    }

    fn session(
        &self,
        config: &NodeConfig,
        router: &Arc<Router>,
        presence: &Arc<Presence>,
    ) -> Arc<SessionContext> {
        Arc::new(SessionContext {
            router: router.clone(),
            presence: presence.clone(),
            sessions: self.sessions.clone(),
            edge_methods: self.edge_methods.clone(),
            limits: config.limits.clone(),
            memory: self.memory.clone(),
            telemetry: self.telemetry.clone(),
        })
    }

    fn mesh(&self, config: &NodeConfig, router: &Arc<Router>, presence: &Arc<Presence>) -> Arc<MeshContext> {
        let cluster = &config.cluster;
        Arc::new(MeshContext {
            tasks: self.tasks.clone(),
            name: cluster.name.clone(),
            heartbeat: cluster.heartbeat,
            down_after: cluster.down_after(),
            consensus: self.consensus.clone(),
            router: router.clone(),
            presence: presence.clone(),
            sessions: self.sessions.clone(),
            edges: self.edges.clone(),
            peers: self.peers.clone(),
            edge_methods: self.edge_methods.clone(),
            telemetry: self.telemetry.clone(),
        })
    }

    fn http(&self, config: &NodeConfig) -> Arc<HttpServer> {
        Arc::new(HttpServer {
            tasks: self.tasks.clone(),
            handshake: config.limits.handshake,
            stall: config.limits.stall,
            descriptors: self.descriptors.clone(),
            telemetry: self.telemetry.clone(),
        })
    }
}
