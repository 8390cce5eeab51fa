//! What only a native session keeps.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use limes_wire::frame::{Names, Role};

use crate::presence::registration::NameChange;
use crate::router::message::SessionHandle;
use crate::session::context::SessionContext;
use crate::session::core::SessionCore;
use crate::session::handler::Session;
use crate::transport::permit::Permit;

/// A session of the native protocol.
pub(crate) type NativeSession = Session<NativeProtocol>;

/// The native protocol's part of a session.
#[derive(Default)]
pub(crate) struct NativeProtocol {
    /// Changes of names that the peer requested, in order; the first is being decided.
    pub(super) name_changes: VecDeque<(NameChange, Names)>,
}

impl NativeSession {
    /// A session that waits for its peer's hello.
    pub(crate) fn new(
        ctx: Arc<SessionContext>,
        role: Role,
        handle: SessionHandle,
        remote: SocketAddr,
        permit: Permit,
    ) -> Self {
        let core = SessionCore::new(ctx, role, handle, remote, permit);
        Session { core, protocol: NativeProtocol::default() }
    }
}
