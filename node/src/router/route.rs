//! Routes, and the results of resolving a recipient.

use limes_routing::NodeId;

use super::grace::Wait;
use super::message::{Destination, Receiver};

/// The result of resolving a recipient with what this node knows.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// A route.
    Routed(Route),
    /// The tables know a receiver, but no link leads there, or its connection has just ended.
    Unreachable,
    /// The tables know no receiver, but one that has just left is expected to reconnect.
    InGrace(Wait),
    /// The tables know no receiver.
    Absent,
}

/// Where a request goes next.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The node of the receiver; `None`: this one.
    pub(crate) node: Option<NodeId>,
    /// The receiver's session, the link to its node, or a bridge.
    pub(crate) receiver: Receiver,
    /// The receiver with its generation; `None`: a bridge, which has none.
    pub(crate) destination: Option<Destination>,
}
