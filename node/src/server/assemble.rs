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
        let tasks = Tasks::default();
        let consensus = Consensus::default();
        let telemetry = Arc::new(Telemetry::default());
        let memory = Arc::new(MemoryPressure::default());
        let descriptors = DescriptorBudget::of_process();
        let sessions = Arc::new(SessionRegistry::new());
        let edges = Arc::new(EdgeRoutes::new());
        let services = Arc::new(ArcSwap::default());
        let grace = Arc::new(ReconnectGrace::default());
        let peers = Arc::new(PeerTable::new());
        let edge_methods = Arc::new(EdgeMethods::default());
        let parts = RouterParts {
            consensus: consensus.clone(),
            telemetry: telemetry.clone(),
            memory: memory.clone(),
            sessions: sessions.clone(),
            edges: edges.clone(),
            services: services.clone(),
            grace: grace.clone(),
            peers: peers.clone(),
        };
        let cluster = &config.cluster;
        let router = Router::new(parts, config.exchange.clone(), cluster.heartbeat, cluster.timing());
        let presence = presence(&config, &consensus, &router, (&sessions, &edges), services, grace, {
            (&peers, &telemetry)
        });
        let session = Arc::new(SessionContext {
            router: router.clone(),
            presence: presence.clone(),
            sessions: sessions.clone(),
            edge_methods: edge_methods.clone(),
            limits: config.limits.clone(),
            memory: memory.clone(),
            telemetry: telemetry.clone(),
        });
        let mesh = Arc::new(MeshContext {
            tasks: tasks.clone(),
            name: cluster.name.clone(),
            heartbeat: cluster.heartbeat,
            down_after: cluster.down_after(),
            consensus: consensus.clone(),
            router: router.clone(),
            presence: presence.clone(),
            sessions: sessions.clone(),
            edges: edges.clone(),
            peers: peers.clone(),
            edge_methods: edge_methods.clone(),
            telemetry: telemetry.clone(),
        });
        let http = Arc::new(HttpServer {
            tasks: tasks.clone(),
            handshake: config.limits.handshake,
            stall: config.limits.stall,
            descriptors: descriptors.clone(),
            telemetry: telemetry.clone(),
        });
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

type Held<'a> = (&'a Arc<SessionRegistry>, &'a Arc<EdgeRoutes>);

fn presence(
    config: &NodeConfig,
    consensus: &Consensus,
    router: &Arc<Router>,
    (sessions, edges): Held<'_>,
    services: Arc<ArcSwap<crate::router::service_index::ServiceIndex>>,
    grace: Arc<ReconnectGrace>,
    (peers, telemetry): (&Arc<PeerTable>, &Arc<Telemetry>),
) -> Arc<Presence> {
    let settings = PresenceConfig {
        cluster: config.cluster.clone(),
        allot_edge_ids: config.edgebound.edgeid_alloc_when_no_idservice_on,
        names_max: config.limits.names,
        ignore_case: config.exchange.ignore_case,
    };
    let parts = PresenceParts {
        consensus: consensus.clone(),
        router: router.clone(),
        sessions: sessions.clone(),
        edges: edges.clone(),
        services,
        grace,
        peers: peers.clone(),
        telemetry: telemetry.clone(),
    };
    Presence::new(settings, parts)
}
