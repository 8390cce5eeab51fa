//! The one place that fixes openraft's type parameters.

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

/// The answer to a proposal: that it is applied. Verdicts go to the observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied;

openraft::declare_raft_types!(
    /// openraft with our data.
    pub TypeConfig:
        D = Data,
        R = Applied,
        NodeId = u64,
        Node = BasicNode,
);

/// A member's address in Raft's configuration.
pub type Node = BasicNode;
/// The consensus.
pub type Raft = openraft::Raft<TypeConfig, crate::consensus::state_machine::Machine>;
/// Term, leader and index of an entry.
pub type LogId = alias::LogIdOf<TypeConfig>;
/// Term and candidate.
pub type Vote = alias::VoteOf<TypeConfig>;
/// One entry of the log.
pub type Entry = alias::EntryOf<TypeConfig>;
/// Who votes and who learns.
pub type Membership = openraft::Membership<u64, Node>;
/// The configuration and where it was logged.
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot is of.
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// The tables' bytes, joined.
pub type SnapshotData = Cursor<Bytes>;
/// A snapshot.
pub type Snapshot = alias::SnapshotOf<TypeConfig, SnapshotData>;
