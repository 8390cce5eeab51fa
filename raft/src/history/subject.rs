//! The subject of an event.

use limes_routing::{EdgeId, Event, NodeId, ServiceId};

/// An edge, a service or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Edge(EdgeId),
    Service(ServiceId),
    Node(NodeId),
}

impl Subject {
    /// A hash that stands for the subject in the head of a chunk; two subjects rarely share one.
    pub(super) fn mark(self) -> u32 {
        let (kind, id) = match self {
            Subject::Edge(EdgeId(id)) => (1, id),
            Subject::Service(ServiceId(id)) => (2, id),
            Subject::Node(NodeId(id)) => (3, id),
        };
        crc32c::crc32c_append(kind, &id.to_be_bytes())
    }
}

/// The subject of an event; its proposer is another subject.
pub(super) fn of(event: &Event) -> Option<Subject> {
    match event {
        Event::EdgeAdmitting { edge, .. }
        | Event::EdgeOnline { edge, .. }
        | Event::EdgeRefused { edge, .. }
        | Event::EdgeOffline { edge, .. }
        | Event::EdgeResumed { edge, .. }
        | Event::CallbackOwed { edge, .. }
        | Event::CallbackSettled { edge, .. }
        | Event::Kick { edge } => Some(Subject::Edge(*edge)),
        Event::ServiceOnline { service, .. }
        | Event::ServiceOffline { service, .. }
        | Event::ServiceResumed { service, .. }
        | Event::KickService { service }
        | Event::MethodsRegistered { service, .. }
        | Event::MethodsWithdrawn { service, .. }
        | Event::TopicsSubscribed { service, .. }
        | Event::TopicsUnsubscribed { service, .. } => Some(Subject::Service(*service)),
        Event::MemberPromoted { node }
        | Event::MemberRemoved { node }
        | Event::NodeUp { node, .. }
        | Event::NodeDown { node, .. }
        | Event::SuspendedDropped { node, .. }
        | Event::Drain { node, .. } => Some(Subject::Node(*node)),
        Event::ClusterMade { .. }
        | Event::LevelRaised { .. }
        | Event::MemberAdded { .. }
        | Event::ResumeEnd {}
        | Event::EdgeIdsReserved { .. }
        | Event::ServiceIdsReserved { .. }
        | Event::SettingChanged { .. } => None,
    }
}
