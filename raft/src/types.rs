//! The type parameters of openraft, fixed in this one place.

use std::fmt;
use std::io::Cursor;

use bytes::Bytes;
use openraft::impls::BasicNode;
use openraft::type_config::alias;

/// One encoded [`limes_routing::Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data(pub Bytes);

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a batch of {} bytes", self.0.len())
    }
}

/// The answer to a proposal: the entry is applied. Verdicts go to the observer and the proposer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied;

openraft::declare_raft_types!(
    /// openraft's parameters.
    pub TypeConfig:
        D = Data,
        R = Applied,
        NodeId = u64,
        Node = BasicNode,
);

/// A member's address in Raft's configuration.
pub type Node = BasicNode;
/// Term, leader and index of an entry.
pub type LogId = alias::LogIdOf<TypeConfig>;
/// Term and candidate.
pub type Vote = alias::VoteOf<TypeConfig>;
/// One entry of the log.
pub type Entry = alias::EntryOf<TypeConfig>;
/// The voters and the learners.
pub type Membership = openraft::Membership<u64, Node>;
/// A membership and the log id of its entry.
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// The last log id and the membership of a snapshot.
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// The encoded tables of a snapshot.
pub type SnapshotData = Cursor<Bytes>;
/// A snapshot.
pub type Snapshot = alias::SnapshotOf<TypeConfig, SnapshotData>;
