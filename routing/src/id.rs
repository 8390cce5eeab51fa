//! Identities and fencing numbers, each with a type of its own.

use std::fmt;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers! {
    /// A member's id: 1 to n for founders, else the log index of its joining; never reused.
    NodeId,
    /// The log index of a node's "up": of two epochs of one node, the higher one is live.
    Epoch,
    /// The log index of an entry, and so the version of the tables.
    Revision,
    /// An edge's id.
    EdgeId,
    /// A service's id.
    ServiceId,
    /// A session's number on its node.
    SessionNo,
}

/// The position of one change: the entry, and the ordinal of the event in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// The entry.
    pub revision: Revision,
    /// The event in the entry, counted from 0.
    pub ordinal: u32,
}

impl Position {
    /// The position behind all changes of an entry.
    pub fn end_of(revision: Revision) -> Self {
        Position { revision, ordinal: u32::MAX }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.ordinal)
    }
}

/// The position of an edge session's "online": of two sessions of one edge, the higher one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Incarnation(pub Position);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a session is, with all its fencing numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Home {
    /// The node that holds the session.
    pub node: NodeId,
    /// That node's epoch.
    pub epoch: Epoch,
    /// The session on that node.
    pub session: SessionNo,
    /// The session's incarnation.
    pub incarnation: Incarnation,
}
