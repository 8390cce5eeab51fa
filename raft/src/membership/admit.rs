//! Admission of new members by the leader.

use limes_routing::{Event, NodeId, Verdict};
use tokio::time::timeout;

use super::change::{ChangeError, propose};
use crate::consensus::member::Member;
use crate::network::RpcError;
use crate::types::Node;

/// Why the leader does not admit a node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("this node does not lead; ask again")]
    NotLeader,
    #[error("no answer from {mesh}: {error}")]
    Unreachable {
        mesh: String,
        #[source]
        error: RpcError,
    },
    #[error("{mesh} is not a new node of the name {name}")]
    NotNew { mesh: String, name: String },
    /// The name is in use.
    #[error("a node of the name {name} is up at another address, as member {node}")]
    NameInUse { name: String, node: NodeId },
    #[error("the node cannot be added: {0:?}")]
    Rejected(Verdict),
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Makes a node a member under a new number, as a learner; returns the number. Only the leader can.
///
/// # Errors
/// [`AdmitError`].
///
/// # Cancel safety
/// The node may become a member anyway. It gets the same number if it asks again with the same nonce.
pub(crate) async fn admit(
    member: &Member,
    name: &str,
    mesh: &str,
    nonce: [u8; 16],
) -> Result<u64, AdmitError> {
    if !member.is_leader() {
        return Err(AdmitError::NotLeader);
    }
    check_candidate(member, name, mesh).await?;
    let event = Event::MemberAdded { name: name.into(), mesh: mesh.into(), nonce };
    let verdict = propose(member, event).await?;
    let Verdict::Member(NodeId(number)) = verdict else {
        return Err(AdmitError::Rejected(verdict));
    };
    let added = member.raft.add_learner(number, Node::new(mesh), false);
    timeout(member.timing.change(), added)
        .await
        .map_err(|_| ChangeError::Timeout)?
        .map_err(|error| ChangeError::Raft(error.to_string()))?;
    Ok(number)
}

/// Checks that the candidate answers at its address, under its name and without an identity. A name that is
/// in use may only be taken over by a node that has lost its disk. Then its old process is gone: another
/// process answers at its address, or it was declared down.
async fn check_candidate(member: &Member, name: &str, mesh: &str) -> Result<(), AdmitError> {
    let request = async { member.clients.requests(mesh)?.identify(None).await };
    let info = request.await.map_err(|error| AdmitError::Unreachable { mesh: mesh.to_owned(), error })?;
    if info.name != name || info.identity.is_some() {
        return Err(AdmitError::NotNew { mesh: mesh.to_owned(), name: name.to_owned() });
    }
    let elsewhere = member.state.read(|tables| {
        let namesakes = tables.members().filter(|row| row.name == name && row.mesh != mesh);
        namesakes.map(|row| row.node).find(|node| tables.live_epoch(*node).is_some())
    });
    match elsewhere {
        Some(node) => Err(AdmitError::NameInUse { name: name.to_owned(), node }),
        None => Ok(()),
    }
}
