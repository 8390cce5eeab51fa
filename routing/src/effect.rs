//! What an applied batch asks of the owners of sockets, and what it answers its proposer.

use crate::id::{EdgeId, Epoch, Home, Incarnation, NodeId, Position, ServiceId};

/// The answer to one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds; this is its place (an incarnation, if it was an "online").
    Accepted(Position),
    /// Ids from `first` on, so many.
    Ids {
        /// The first id.
        first: u64,
        /// How many.
        count: u32,
    },
    /// The node's epoch.
    Epoch(Epoch),
    /// The new member's number.
    Member(NodeId),
    /// It changed nothing.
    Rejected(Reason),
}

/// Why an event changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// From a life of the node that is over.
    #[error("the node has been fenced or restarted since")]
    Fenced,
    /// A batch that has been applied before.
    #[error("this batch has been applied already")]
    Duplicate,
    /// A batch whose forerunner is missing.
    #[error("an earlier batch is missing")]
    Gap,
    /// The row is gone or belongs to a newer session.
    #[error("the session is no longer in the tables")]
    Stale,
    /// Only a node may say this, under its epoch.
    #[error("the event needs a proposing node")]
    NoOrigin,
    /// No such member.
    #[error("no such member")]
    NoMember,
    /// There is a cluster already.
    #[error("the cluster has been made already")]
    ClusterExists,
    /// Nothing to change.
    #[error("nothing to change")]
    NoChange,
    /// The cluster's level is above what the node can work at.
    #[error("the node cannot work at the cluster's level")]
    Level,
}

/// Why a session's row went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its node said that it has ended.
    Ended,
    /// A newer session took over.
    Replaced,
    /// An operator ended it.
    Kicked,
    /// Its node's life is over, or a snapshot stepped over its end.
    NodeGone,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An edge is at home here now; the older session, if any, is to be closed or retired.
    EdgeOnline {
        /// The edge.
        edge: EdgeId,
        /// Where.
        home: Home,
        /// Whom it replaced.
        replaced: Option<Home>,
        /// The replaced one may finish what is in flight.
        moving: bool,
    },
    /// An edge's row is gone.
    EdgeGone {
        /// The edge.
        edge: EdgeId,
        /// Where it was.
        home: Home,
        /// Why.
        why: Why,
    },
    /// A service's session is in the tables.
    ServiceOnline {
        /// The service.
        service: ServiceId,
        /// Where.
        home: Home,
    },
    /// A service's session is gone.
    ServiceGone {
        /// The service.
        service: ServiceId,
        /// Where it was.
        home: Home,
        /// Why.
        why: Why,
    },
    /// A service's methods or topics have changed.
    NamesChanged {
        /// The service.
        service: ServiceId,
        /// Which session of it.
        home: Home,
    },
    /// A node lives in a new epoch.
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
        /// The life that is over.
        epoch: Epoch,
    },
    /// Members, their addresses or states have changed.
    MembersChanged,
    /// A callback about an edge's end is to be made.
    OfflineDue {
        /// The edge.
        edge: EdgeId,
        /// The session that has ended.
        incarnation: Incarnation,
    },
    /// A node is to be emptied, or filled again.
    Drain {
        /// The node.
        node: NodeId,
        /// Whether it is drained.
        on: bool,
    },
    /// A setting has changed.
    SettingChanged {
        /// Its name.
        key: String,
    },
}
