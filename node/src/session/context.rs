//! The handles that sessions use.

use std::sync::Arc;

use crate::config::Limits;
use crate::limits::memory::MemoryPressure;
use crate::presence::Presence;
use crate::router::context::Router;
use crate::router::edge_methods::EdgeMethods;
use crate::router::registry::SessionRegistry;
use crate::telemetry::Telemetry;

/// What a session uses.
pub(crate) struct SessionContext {
    /// Routes what the peer sends.
    pub(crate) router: Arc<Router>,
    /// Admits the session and removes it again.
    pub(crate) presence: Arc<Presence>,
    /// Issues local numbers; records which peers are silent.
    pub(crate) sessions: Arc<SessionRegistry>,
    /// The methods that geminio edges offer.
    pub(crate) edge_methods: Arc<EdgeMethods>,
    /// `limits`.
    pub(crate) limits: Limits,
    /// Refuses new requests while memory is short.
    pub(crate) memory: Arc<MemoryPressure>,
    /// Metrics and the log limiter.
    pub(crate) telemetry: Arc<Telemetry>,
}
