//! Why a peer is not admitted.

use limes_raft::ProposeError;
use limes_routing::{Position, Reason, Verdict};
use limes_wire::Code;
use limes_wire::frame::GoAway;

use crate::consensus::handle::ConsensusError;

/// Why a peer is not admitted. The text is sent to the peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdmitError {
    /// The node is shutting down or drained.
    #[error("this node takes no new sessions")]
    Draining,
    /// The node has lost the quorum.
    #[error("this node has lost the cluster; look for another")]
    Isolated,
    /// The replica has not been started yet.
    #[error("this node is starting")]
    Starting,
    /// The admission took too long.
    #[error("the cluster did not agree in time")]
    Timeout,
    /// The event could not be committed.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The tables could not be brought up to date.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The event was committed and the tables have rejected it.
    #[error("{0}")]
    Rejected(Reason),
    /// The verdict on the event is of another kind: a bug.
    #[error("an online was answered {0:?}")]
    Verdict(Verdict),
    /// The node was declared down while a service was asked.
    #[error("this node was declared down while a service was asked")]
    DeclaredDown,
    /// A service, or the node's settings, refuse the peer.
    #[error("{text}")]
    Refused {
        /// The code that the peer sees.
        code: Code,
        /// One line for a person.
        text: String,
    },
}

impl AdmitError {
    /// A refusal by a service or by the settings.
    pub(super) fn refused(code: Code, text: impl Into<String>) -> Self {
        AdmitError::Refused { code, text: text.into() }
    }

    /// The code that the peer sees.
    fn code(&self) -> Code {
        match self {
            AdmitError::Draining => Code::DRAINING,
            AdmitError::Isolated
            | AdmitError::Starting
            | AdmitError::Timeout
            | AdmitError::Propose(_)
            | AdmitError::Rejected(_)
            | AdmitError::DeclaredDown => Code::NO_QUORUM,
            AdmitError::Consensus(error) => error.code(),
            AdmitError::Verdict(_) => Code::INTERNAL,
            AdmitError::Refused { code, .. } => *code,
        }
    }

    /// The final frame to the peer.
    pub(super) fn goaway(&self) -> GoAway {
        GoAway::new(self.code(), self.to_string())
    }
}

/// The position at which an "online" was accepted; it is the session's incarnation.
pub(super) fn accepted(verdict: Result<Verdict, ProposeError>) -> Result<Position, AdmitError> {
    match verdict? {
        Verdict::Accepted(at) => Ok(at),
        Verdict::Rejected(reason) => Err(AdmitError::Rejected(reason)),
        other => Err(AdmitError::Verdict(other)),
    }
}
