//! Identities and fencing numbers, each a type of its own.

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
    /// A member's number: 1..n for founders, then the log index of its joining; never used twice.
    NodeId,
    /// The log index of a node's "up": of two epochs of one node the higher is the live one.
    Epoch,
    /// The log index of an entry, and so a version of the tables.
    Revision,
    /// An edge.
    EdgeId,
    /// A service.
    ServiceId,
    /// A session's number on the node that holds it.
    SessionNo,
}

/// The place of one change: the entry and the ordinal of the event in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// The entry.
    pub revision: Revision,
    /// The event in it, from 0.
    pub ordinal: u32,
}

impl Position {
    /// Behind all changes of an entry.
    pub fn end_of(revision: Revision) -> Self {
        Position { revision, ordinal: u32::MAX }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.ordinal)
    }
}

/// The position of an edge session's "online": of two sessions of one edge the higher one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Incarnation(pub Position);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a session is, with all its generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Home {
    /// The node that holds it.
    pub node: NodeId,
    /// That node's epoch.
    pub epoch: Epoch,
    /// The session there.
    pub session: SessionNo,
    /// The session's generation.
    pub incarnation: Incarnation,
}
