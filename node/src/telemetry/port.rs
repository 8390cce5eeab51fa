//! The listeners of a node.

use limes_wire::frame::Role;

/// A listener; names it in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Port {
    /// Edges dial it.
    Edges,
    /// Services dial it.
    Services,
    /// Other nodes dial it.
    Mesh,
    /// Operators: gRPC and REST.
    Control,
    /// The directory as the reference's clients know it: gRPC and REST.
    Discovery,
    /// Metrics and health.
    Metrics,
}

impl Port {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Port; 6] =
        [Port::Edges, Port::Services, Port::Mesh, Port::Control, Port::Discovery, Port::Metrics];

    /// Where peers of a role connect.
    pub(crate) fn of(role: Role) -> Port {
        match role {
            Role::Edge => Port::Edges,
            Role::Service => Port::Services,
            Role::Node => Port::Mesh,
        }
    }

    /// Its name in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Port::Edges => "edges",
            Port::Services => "services",
            Port::Mesh => "mesh",
            Port::Control => "control",
            Port::Discovery => "discovery",
            Port::Metrics => "metrics",
        }
    }
}
