//! How requests and sessions are named.

use limes_routing::{EdgeId, Epoch, Incarnation, Revision, ServiceId, SessionNo};

use crate::telemetry::labels::RequestKind;

/// What sort of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Answered by a reply.
    Call,
    /// Answered by an acknowledgement.
    Message,
}

impl From<Kind> for RequestKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Call => RequestKind::Call,
            Kind::Message => RequestKind::Message,
        }
    }
}

/// The receiver of a request as its caller names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipient {
    /// The session that the edge has now.
    Edge(EdgeId),
    /// A service that offers the request's method or takes its topic.
    Service,
}

/// One session with its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// This incarnation of an edge.
    Edge(EdgeId, Incarnation),
    /// This session of a service, on a node of this epoch.
    Service(ServiceId, SessionNo, Epoch),
}

impl Destination {
    /// The recipient that this session belongs to.
    pub(crate) fn recipient(self) -> Recipient {
        match self {
            Destination::Edge(edge, _) => Recipient::Edge(edge),
            Destination::Service(..) => Recipient::Service,
        }
    }
}

/// The receiver of a request: still to be resolved, or resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// Not resolved yet.
    Unresolved(Recipient),
    /// This very session.
    Resolved(Destination),
}

impl Address {
    /// Any session of an edge.
    pub(crate) fn edge(edge: u64) -> Self {
        Address::Unresolved(Recipient::Edge(EdgeId(edge)))
    }

    /// Any service that offers the method or takes the topic.
    pub(crate) fn service() -> Self {
        Address::Unresolved(Recipient::Service)
    }

    /// The recipient, resolved or not.
    pub(crate) fn recipient(self) -> Recipient {
        match self {
            Address::Unresolved(recipient) => recipient,
            Address::Resolved(destination) => destination.recipient(),
        }
    }

    /// The session, once resolved.
    pub(crate) fn destination(self) -> Option<Destination> {
        match self {
            Address::Unresolved(_) => None,
            Address::Resolved(destination) => Some(destination),
        }
    }
}

/// How new the tables must be before a recipient counts as absent (R4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// As of a read barrier that begins now.
    Barrier,
    /// At least this revision.
    AtLeast(Revision),
}

impl Freshness {
    /// The stricter of two; a barrier is as good as any revision.
    pub(crate) fn max(self, other: Freshness) -> Freshness {
        match (self, other) {
            (Freshness::AtLeast(one), Freshness::AtLeast(two)) => Freshness::AtLeast(one.max(two)),
            _ => Freshness::Barrier,
        }
    }
}

/// Identifies a request within a node: the origin's number and the origin's id for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The local number of the session or link.
    pub(crate) origin: u64,
    /// The origin's own number for the request.
    pub(crate) id: u64,
}
