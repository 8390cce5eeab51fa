//! The lifecycle of a session.

use std::time::Instant;

/// Where a session is in its lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The peer has sent no hello.
    Silent,
    /// The peer has sent its hello; the cluster decides whether to admit it.
    Admitting,
    /// A geminio service is admitted; the topics of its meta are being subscribed.
    Subscribing,
    /// The peer is welcomed.
    Open,
    /// What is in flight may finish until this instant.
    Retiring(Instant),
    /// A geminio peer is closing; its streams are still read.
    Leaving,
    /// The session is over; its connection is closed at this instant.
    Closing(Instant),
}

impl State {
    /// Whether the peer has sent its hello and is not welcomed yet.
    pub(super) fn is_being_admitted(self) -> bool {
        matches!(self, State::Admitting | State::Subscribing)
    }
}
