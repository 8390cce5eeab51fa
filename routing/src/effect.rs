//! The results of an applied batch: verdicts for its proposer, and effects for the owners of sockets.

use crate::id::{EdgeId, Epoch, Home, Incarnation, NodeId, Position, ServiceId};

/// The result of one event, for its proposer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The event was applied at this position, which is the incarnation of an "online".
    Accepted(Position),
    /// A block of ids.
    Ids {
        /// The first id of the block.
        first: u64,
        /// The number of ids.
        count: u32,
    },
    /// The node's epoch.
    Epoch(Epoch),
    /// The new member's number.
    Member(NodeId),
    /// The event changed nothing.
    Rejected(Reason),
}

/// Why an event changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// The event is of an epoch of the node that has ended.
    #[error("the node has been fenced or restarted since")]
    Fenced,
    /// The batch was applied before.
    #[error("this batch has been applied already")]
    Duplicate,
    /// An earlier batch is missing.
    #[error("an earlier batch is missing")]
    Gap,
    /// The row is gone or belongs to a newer session.
    #[error("the session is no longer in the tables")]
    Stale,
    /// Only a node may propose the event, under its epoch.
    #[error("the event needs a proposing node")]
    NoOrigin,
    /// The node is not a member.
    #[error("no such member")]
    NoMember,
    /// The cluster exists already.
    #[error("the cluster exists already")]
    ClusterExists,
    /// The event would change nothing.
    #[error("nothing to change")]
    NoChange,
    /// The node does not support the cluster's level.
    #[error("the node does not support the cluster's level")]
    Level,
}

/// Why a session's row was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its node reported the end of the session.
    Ended,
    /// A newer session took over.
    Replaced,
    /// An operator ended it.
    Kicked,
    /// The epoch of its node has ended, or a snapshot skipped the removal.
    NodeGone,
}

/// A change of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An edge's session began; the older one, if any, is to be closed or retired.
    EdgeOnline {
        /// The edge.
        edge: EdgeId,
        /// The session's home.
        home: Home,
        /// The home of the session that it replaced.
        replaced: Option<Home>,
        /// The replaced session may finish what is in flight.
        moving: bool,
    },
    /// An edge's session ended.
    EdgeGone {
        /// The edge.
        edge: EdgeId,
        /// The session's former home.
        home: Home,
        /// The reason.
        why: Why,
    },
    /// A service's session began.
    ServiceOnline {
        /// The service.
        service: ServiceId,
        /// The session's home.
        home: Home,
    },
    /// A service's session ended.
    ServiceGone {
        /// The service.
        service: ServiceId,
        /// The session's former home.
        home: Home,
        /// The reason.
        why: Why,
    },
    /// A service's methods or topics have changed.
    NamesChanged {
        /// The service.
        service: ServiceId,
        /// The session.
        home: Home,
    },
    /// A node is up in a new epoch.
    NodeUp {
        /// The node.
        node: NodeId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A node's rows are suspended.
    NodeDown {
        /// The node.
        node: NodeId,
        /// The epoch that has ended.
        epoch: Epoch,
    },
    /// Members, their addresses or their states have changed.
    MembersChanged,
    /// The callback about the end of an edge's session is due.
    OfflineDue {
        /// The edge.
        edge: EdgeId,
        /// The session that has ended.
        incarnation: Incarnation,
    },
    /// A node begins or stops draining.
    Drain {
        /// The node.
        node: NodeId,
        /// Whether the node drains.
        on: bool,
    },
    /// A setting has changed.
    SettingChanged {
        /// Its name.
        key: String,
    },
}
