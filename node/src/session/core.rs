//! What the sessions of both protocols have in common.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use limes_wire::frame::{Hello, Role};
use limes_wire::{By, CloseReason, Code, Str};
use tracing::{debug, info, warn};

use super::context::SessionContext;
use super::early::EarlyDeliveries;
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::state::State;
use crate::presence::admission::{PeerProtocol, PendingAdmission, admit};
use crate::presence::registration::{NameChange, change_names};
use crate::router::message::{Failure, SessionHandle};
use crate::router::streams::Caller;
use crate::tasks;
use crate::telemetry::port::Port;
use crate::transport::permit::Permit;

/// Register, withdraw, subscribe and unsubscribe requests of one service that may be undecided.
pub(super) const NAME_CHANGES_MAX: usize = 256;

/// Identity, lifecycle and in-flight tables of one session. Owned by the session's task, without locks.
pub(crate) struct SessionCore {
    pub(super) ctx: Arc<SessionContext>,
    /// Local number; part of the session's identity in the tables.
    pub(super) no: u64,
    pub(super) role: Role,
    pub(super) handle: SessionHandle,
    pub(super) remote: SocketAddr,
    pub(super) state: State,
    /// Edge id or service id, once admitted.
    pub(super) id: Option<u64>,
    /// Requests of the peer.
    pub(super) outgoing: Outgoing,
    /// Requests for the peer.
    pub(super) incoming: Incoming,
    /// Deliveries that arrived before the welcome.
    pub(super) early: EarlyDeliveries,
    /// Held until the session is dropped.
    pub(super) permit: Permit,
    /// The peer has announced that it answered everything it read (GOAWAY with `OK`).
    pub(super) has_drained: bool,
    /// Why this side closes the session, if it does.
    pub(super) farewell: Option<Code>,
}

impl SessionCore {
    /// A session whose peer has sent nothing yet.
    pub(super) fn new(
        ctx: Arc<SessionContext>,
        role: Role,
        handle: SessionHandle,
        remote: SocketAddr,
        permit: Permit,
    ) -> Self {
        let no = ctx.sessions.issue();
        SessionCore {
            ctx,
            no,
            role,
            handle,
            remote,
            state: State::Silent,
            id: None,
            outgoing: Outgoing::new(no),
            incoming: Incoming::default(),
            early: EarlyDeliveries::default(),
            permit,
            has_drained: false,
            farewell: None,
        }
    }

    /// The id that receivers see as the caller. A peer makes requests only after its welcome, so it has one.
    pub(super) fn caller(&self) -> u64 {
        self.id.unwrap_or_default()
    }

    /// The caller of a stream that the peer opens. `tunnel`: as in [`Caller`].
    pub(super) fn stream_caller(&self, tunnel: bool) -> Caller {
        Caller { role: self.role, id: self.caller(), remote: self.remote, tunnel }
    }

    /// Starts the admission of a peer that has sent its hello. The outcome arrives as a command.
    pub(super) fn admit(&mut self, protocol: PeerProtocol, hello: Hello) {
        self.state = State::Admitting;
        self.permit.identified();
        let handle = self.handle.clone();
        let pending = PendingAdmission { no: self.no, handle, remote: self.remote, protocol, hello };
        tasks::spawn(tasks::Kind::Session, admit(self.ctx.presence.clone(), pending));
    }

    /// Proposes a change of the service's names. The outcome arrives as a command with this id.
    pub(super) fn change_names(&self, change: NameChange, id: u64, names: Vec<Str>) {
        let work = change_names(self.ctx.presence.clone(), self.no, change, id, names);
        tasks::spawn(tasks::Kind::Session, work);
    }

    /// Marks the session as open. The protocol then writes the welcome.
    pub(super) fn open(&mut self, protocol: &'static str) {
        self.state = State::Open;
        self.permit.welcomed();
        let (session, id, role, remote) = (self.no, self.id, self.role, self.remote);
        debug!(session, id, ?role, %remote, protocol, "connected");
    }

    /// Fails the requests that the peer holds: its answers are no longer read.
    pub(super) fn fail_incoming(&mut self) {
        let code = match self.farewell {
            Some(Code::REPLACED) => Code::REPLACED,
            _ => Code::GONE,
        };
        self.incoming.fail_all(&match self.has_drained {
            true => Failure::not_run(Code::DRAINING, "the receiver left before it took this"),
            false => Failure::may_have_run(code, "the connection of the receiver ended before it answered"),
        });
    }

    /// Writes one line for the end of the session. Lines about peers that broke a rule (`offences`) or were not
    /// admitted are rate-limited.
    pub(super) fn log_end(&self, reason: &CloseReason, protocol: &'static str, offences: &[Code]) {
        let (session, id, role, remote) = (self.no, self.id, self.role, self.remote);
        let port = Port::of(role);
        if reason.by == By::Us && offences.contains(&reason.code) {
            if let Some(more) = self.ctx.telemetry.disconnected(port, reason.code) {
                let port = port.name();
                warn!(port, session, id, %remote, %reason, protocol, more, "disconnected");
            }
        } else if self.state == State::Admitting {
            if let Some(more) = self.ctx.telemetry.log.first(port, reason.code, Instant::now()) {
                info!(session, ?role, %remote, %reason, protocol, more, "not admitted");
            }
        } else if self.state != State::Silent {
            debug!(session, id, ?role, %remote, %reason, protocol, "closed");
        }
    }
}
