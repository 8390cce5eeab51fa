//! The handles that sessions of both protocols use.

use std::sync::Arc;

use crate::config::Limits;
use crate::limits::memory::MemoryPressure;
use crate::presence::Presence;
use crate::router::context::Router;
use crate::router::edge_methods::EdgeMethods;
use crate::router::registry::SessionRegistry;
use crate::telemetry::Telemetry;

/// What a session may touch.
pub(crate) struct SessionContext {
    /// Routes what the peer sends.
    pub(crate) router: Arc<Router>,
    /// Admits the session and removes it again.
    pub(crate) presence: Arc<Presence>,
    /// Issues local numbers; keeps whether the peer is silent.
    pub(crate) sessions: Arc<SessionRegistry>,
    /// The methods that geminio edges say they offer.
    pub(crate) edge_methods: Arc<EdgeMethods>,
    /// `limits`.
    pub(crate) limits: Limits,
    /// Whether new requests are refused for want of memory.
    pub(crate) memory: Arc<MemoryPressure>,
    /// Metrics and the log limiter.
    pub(crate) telemetry: Arc<Telemetry>,
}
