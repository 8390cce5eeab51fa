//! Why a member cannot start.

use std::io;
use std::path::PathBuf;

use super::pre_boot::IdentityError;
use crate::storage::log::OpenError;

/// Why a member cannot start. Each message is one line, and says what helps where the operator can help.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The disk failed.
    #[error("cannot use {0}: {1}")]
    Disk(PathBuf, #[source] io::Error),
    /// There is no node to found with or to join.
    #[error("cluster.initial is empty")]
    NoFounders,
    /// The log is damaged, and the configuration names no other node to join.
    #[error("{0}; {1}")]
    Damaged(OpenError, String),
    /// The data was written by another version.
    #[error("{0}")]
    UnknownFormat(OpenError),
    /// The directory is an old copy, and the configuration names no other node to join.
    #[error("{path} is an old copy: {why}; {help}", path = path.display())]
    StaleCopy {
        /// The directory.
        path: PathBuf,
        /// What another member knows.
        why: String,
        /// What helps.
        help: String,
    },
    /// The member was removed from the cluster.
    #[error("{1}; move {path} away to join as a new member", path = .0.display())]
    Removed(PathBuf, String),
    /// The node cannot take the identity that it was given.
    #[error("cannot take an identity: {0}")]
    Identity(#[from] IdentityError),
    /// A node of `cluster.initial` belongs to another cluster.
    #[error("{name} of cluster.initial cannot be founded: {why}")]
    FounderOfOtherCluster {
        /// The node.
        name: String,
        /// Its answer.
        why: String,
    },
    /// The directory belongs to another cluster.
    #[error(
        "{} belongs to cluster {ours}, but {names} belong to cluster {theirs}: put the right directory there, or \
         move it away to join as a new member", dir.display()
    )]
    WrongCluster {
        /// The directory.
        dir: PathBuf,
        /// Its cluster.
        ours: String,
        /// The cluster of most founders.
        theirs: String,
        /// Those founders.
        names: String,
    },
    /// The directory belongs to another member.
    #[error(
        "{} is the data of {owner}, not of {me}: put the right directory there, or move it away to join as a new \
         member", dir.display()
    )]
    WrongMember {
        /// The directory.
        dir: PathBuf,
        /// The name under which the members know its number.
        owner: String,
        /// This node's name.
        me: String,
    },
    /// openraft refused to start.
    #[error("raft cannot start: {0}")]
    Raft(String),
}
