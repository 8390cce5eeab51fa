//! A peer that waits for its admission.

use std::net::SocketAddr;

use limes_wire::frame::Hello;

use crate::router::message::SessionHandle;

/// The protocol of a peer, which decides the wording of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerProtocol {
    /// Frames.
    Native,
    /// The reference's packets. A service chooses its own id; refusals use the texts that its users know.
    Geminio,
}

impl PeerProtocol {
    /// The text for this protocol.
    pub(super) fn text(self, native: impl Into<String>, geminio: &str) -> String {
        match self {
            PeerProtocol::Native => native.into(),
            PeerProtocol::Geminio => geminio.to_owned(),
        }
    }
}

/// A peer that has sent its hello and is not admitted yet.
pub(crate) struct PendingAdmission {
    /// The local session number.
    pub(crate) no: u64,
    /// The session's mailbox.
    pub(crate) handle: SessionHandle,
    /// The peer's address.
    pub(crate) remote: SocketAddr,
    /// The peer's protocol.
    pub(crate) protocol: PeerProtocol,
    /// The hello.
    pub(crate) hello: Hello,
}
