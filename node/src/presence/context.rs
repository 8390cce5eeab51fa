//! The state of presence and the handles that it uses.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use limes_routing::{EdgeId, Incarnation};
use limes_wire::Code;
use limes_wire::frame::GoAway;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::change_log::ChangeLog;
use super::id_allocator::IdAllocator;
use super::removal_queue::RemovalQueue;
use crate::config::Cluster;
use crate::consensus::handle::Consensus;
use crate::router::context::Router;
use crate::router::edge_routes::EdgeRoutes;
use crate::router::grace::ReconnectGrace;
use crate::router::message::SessionCommand;
use crate::router::peers::PeerTable;
use crate::router::registry::SessionRegistry;
use crate::router::service_index::ServiceIndex;
use crate::telemetry::Telemetry;

/// The settings of presence.
#[derive(Debug, Clone)]
pub(crate) struct PresenceConfig {
    /// `cluster`: name and times.
    pub(crate) cluster: Cluster,
    /// `edgebound.edgeid_alloc_when_no_idservice_on`.
    pub(crate) allot_edge_ids: bool,
    /// `limits.names`.
    pub(crate) names_max: usize,
    /// `exchange.ignore_case`.
    pub(crate) ignore_case: bool,
}

/// The handles that presence uses.
#[derive(Clone)]
pub(crate) struct PresenceParts {
    /// The replica.
    pub(crate) consensus: Consensus,
    /// Routes callbacks to services.
    pub(crate) router: Arc<Router>,
    /// Sessions held here.
    pub(crate) sessions: Arc<SessionRegistry>,
    /// Routes to edges, which presence keeps up to date.
    pub(crate) edges: Arc<EdgeRoutes>,
    /// The service index, which presence replaces.
    pub(crate) services: Arc<ArcSwap<ServiceIndex>>,
    /// Sessions that are expected to reconnect.
    pub(crate) grace: Arc<ReconnectGrace>,
    /// The other nodes.
    pub(crate) peers: Arc<PeerTable>,
    /// Metrics and the log limiter.
    pub(crate) telemetry: Arc<Telemetry>,
}

/// The state of presence beside the tables: what is proposed, due, or waited for.
pub(crate) struct Presence {
    pub(super) config: PresenceConfig,
    pub(super) consensus: Consensus,
    pub(super) router: Arc<Router>,
    pub(super) sessions: Arc<SessionRegistry>,
    pub(super) edges: Arc<EdgeRoutes>,
    pub(super) services: Arc<ArcSwap<ServiceIndex>>,
    pub(super) grace: Arc<ReconnectGrace>,
    pub(super) peers: Arc<PeerTable>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) edge_ids: IdAllocator,
    pub(super) service_ids: IdAllocator,
    pub(super) removals: RemovalQueue,
    /// Outstanding confirmations of takeovers, by the new session's number.
    notifications: Mutex<HashMap<u64, Vec<oneshot::Receiver<()>>>>,
    /// Fires when a pending callback may be due.
    pub(super) callback_due: Notify,
    /// Fires when a new epoch has begun, in which sessions are to be resumed.
    pub(super) resume: Notify,
    /// Changes each time that the service index is replaced.
    pub(super) services_changed: watch::Sender<()>,
    /// Recent changes, for watchers.
    pub(crate) changes: ChangeLog,
}

impl Presence {
    /// Presence with nothing under way.
    pub(crate) fn new(config: PresenceConfig, parts: PresenceParts) -> Arc<Self> {
        let PresenceParts { consensus, router, sessions, edges, services, grace, peers, telemetry } = parts;
        Arc::new(Presence {
            config,
            consensus,
            router,
            sessions,
            edges,
            services,
            grace,
            peers,
            telemetry,
            edge_ids: IdAllocator::default(),
            service_ids: IdAllocator::default(),
            removals: RemovalQueue::default(),
            notifications: Mutex::default(),
            callback_due: Notify::new(),
            resume: Notify::new(),
            services_changed: watch::Sender::new(()),
            changes: ChangeLog::new(),
        })
    }

    /// Makes the admission of a session wait for the confirmation of a takeover.
    pub(super) fn expect_confirmation(&self, session: u64, confirmed: oneshot::Receiver<()>) {
        self.notifications.lock().entry(session).or_default().push(confirmed);
    }

    /// Takes the outstanding confirmations of a session.
    pub(super) fn take_confirmations(&self, session: u64) -> Vec<oneshot::Receiver<()>> {
        self.notifications.lock().remove(&session).unwrap_or_default()
    }

    /// Handles another node's report that an edge has a newer session: nothing new is routed to lower
    /// incarnations here, and they are closed, or finish what is in flight if the edge is `moving`.
    pub(crate) fn taken_over(&self, edge: EdgeId, incarnation: Incarnation, moving: bool) {
        let Some(handle) = self.edges.moved(edge, incarnation) else { return };
        if !moving {
            let goaway = GoAway::new(Code::REPLACED, "a newer connection took over");
            handle.command_urgent(SessionCommand::Close(goaway));
        }
    }
}
