//! What only a geminio session keeps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use limes_wire::Str;
use limes_wire::frame::{GoAway, Role};

use super::held_calls::HeldCalls;
use super::pending_requests::PendingRequests;
use super::streams::Streams;
use crate::router::message::{GeminioMessage, SessionHandle, TaskHandle};
use crate::session::context::SessionContext;
use crate::session::core::SessionCore;
use crate::session::handler::Session;
use crate::session::outgoing::Outgoing;
use crate::transport::permit::Permit;

/// A client that is disconnected within a second of its admission never reconnects. Its connection is kept for a
/// little longer than that.
pub(super) const SETTLE: Duration = Duration::from_millis(1_500);
/// Bytes of requests that a service may have in flight. Its one connection calls all edges, and the reference knows no
/// limit: its client for clusters does not survive an error.
const SERVICE_BYTES_MAX: usize = 256 << 20;

/// A session of the reference's protocol.
pub(crate) type GeminioSession = Session<GeminioProtocol>;

/// A service that is served as before for a while, though its node leaves.
pub(super) struct Linger {
    /// When the session begins to retire.
    pub(super) begins: Instant,
    /// Why.
    pub(super) goaway: GoAway,
    /// When it must be closed.
    pub(super) until: Instant,
}

/// The protocol's part of a session.
pub(crate) struct GeminioProtocol {
    /// The session's own mailbox, for the tasks of its streams.
    pub(super) handle: TaskHandle<GeminioMessage>,
    pub(super) welcomed: Option<Instant>,
    /// Requests of the peer; their numbers are those of the session's outgoing requests.
    pub(super) pending: PendingRequests,
    pub(super) streams: Streams,
    /// Topics in the meta of a service.
    pub(super) topics: Vec<Str>,
    /// Calls that wait for the edge to register its methods.
    pub(super) held: HeldCalls,
    /// Registrations that are not decided yet.
    pub(super) registrations: usize,
    /// The reason with which the session retires or closes.
    pub(super) goaway: Option<GoAway>,
    pub(super) linger: Option<Linger>,
}

impl GeminioSession {
    /// A session that waits for its peer's Conn packet.
    pub(crate) fn new(
        ctx: Arc<SessionContext>,
        role: Role,
        handle: TaskHandle<GeminioMessage>,
        remote: SocketAddr,
        permit: Permit,
    ) -> Self {
        let own_handle = SessionHandle::Geminio(handle.clone());
        let mut core = SessionCore::new(ctx, role, own_handle, remote, permit);
        if role == Role::Service {
            core.outgoing = Outgoing::with_bytes(core.no, SERVICE_BYTES_MAX);
        }
        let protocol = GeminioProtocol {
            handle,
            welcomed: None,
            pending: PendingRequests::default(),
            streams: Streams::new(),
            topics: Vec::new(),
            held: HeldCalls::default(),
            registrations: 0,
            goaway: None,
            linger: None,
        };
        Session { core, protocol }
    }

    /// When a client may be disconnected without losing it for ever; `None`: it is not welcomed yet.
    pub(super) fn settled(&self) -> Option<Instant> {
        self.protocol.welcomed.map(|welcomed| welcomed + SETTLE)
    }
}
