//! One change of the membership, in Raft's configuration or in the tables.

use limes_routing::{Event, Verdict};
use openraft::ChangeMembers;
use tokio::time::timeout;

use crate::consensus::member::{Member, ReadIndexError};
use crate::consensus::propose::{ProposeError, propose_unnumbered};
use crate::types::Node;

/// Why a change failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("the change took too long")]
    Timeout,
    /// openraft's error.
    #[error("{0}")]
    Raft(String),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    ReadIndex(#[from] ReadIndexError),
    /// The tables of a new leader are still older than the committed log.
    #[error("the tables lag behind the log")]
    TablesLag,
}

/// Proposes an event of the cluster; returns the verdict.
///
/// # Errors
/// [`ChangeError::Propose`]; the event may still be committed later.
pub(super) async fn propose(member: &Member, event: Event) -> Result<Verdict, ChangeError> {
    let (_, verdict) = propose_unnumbered(member, event, member.timing.no_quorum_after()).await?;
    Ok(verdict)
}

/// Changes Raft's configuration. Voters that are replaced stay as learners.
///
/// # Errors
/// [`ChangeError`]; the change may still be committed later.
///
/// # Cancel safety
/// Not safe: a change of voters is two proposals, and the configuration stays joint if this is dropped between
/// them. The reconciler of the leader completes it then.
pub(super) async fn change(member: &Member, change: ChangeMembers<u64, Node>) -> Result<(), ChangeError> {
    timeout(member.timing.change(), member.raft.change_membership(change, true))
        .await
        .map_err(|_| ChangeError::Timeout)?
        .map(drop)
        .map_err(|error| ChangeError::Raft(error.to_string()))
}
