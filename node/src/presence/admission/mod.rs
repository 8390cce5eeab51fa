//! Admission: from a peer's hello to a row in the tables and a welcome, or to a refusal with its reason.
//!
//! [`admit`] checks the node and hands edges to `edge`, which asks the services that offer callbacks.

mod admit;
mod edge;
mod error;
mod pending;
mod pending_online;

pub(crate) use admit::admit;
pub(crate) use edge::TAKEOVER_WAIT;
pub(crate) use pending::{PeerProtocol, PendingAdmission};
