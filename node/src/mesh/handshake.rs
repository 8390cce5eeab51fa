//! How two nodes verify that they belong together.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use limes_routing::NodeId;
use limes_wire::frame::{Hello, Role, Welcome};

use super::context::MeshContext;
use super::error::HandshakeError;

/// Bytes of a node's meta: the cluster's id, its own number, and the number of the node that it dials.
const META: usize = 32;

/// The hello that this node sends when it dials another; `None`: it belongs to no cluster yet.
pub(super) fn hello(mesh: &MeshContext, to: NodeId) -> Option<Hello> {
    let own = mesh.consensus.identity()?;
    let mut meta = BytesMut::with_capacity(META);
    meta.put_slice(&own.cluster);
    meta.put_u64(own.node.0);
    meta.put_u64(to.0);
    Some(Hello { role: Role::Node, name: mesh.name.clone(), meta: meta.freeze(), ..Hello::default() })
}

/// The number of the node that sent a hello.
///
/// # Errors
/// The peer is no node, is of another cluster, or has dialled another member.
pub(super) fn check(mesh: &MeshContext, hello: &Hello) -> Result<NodeId, HandshakeError> {
    if hello.role != Role::Node {
        return Err(HandshakeError::Role);
    }
    let mut meta: Bytes = hello.meta.clone();
    if meta.len() < META {
        return Err(HandshakeError::Meta);
    }
    let cluster = meta.split_to(16);
    let number = NodeId(meta.get_u64());
    let own = mesh.consensus.identity().ok_or(HandshakeError::NoCluster)?;
    if cluster[..] != own.cluster {
        return Err(HandshakeError::OtherCluster);
    }
    if meta.get_u64() != own.node.0 {
        return Err(HandshakeError::OtherMember);
    }
    Ok(number)
}

/// The welcome for another node.
///
/// # Errors
/// This node belongs to no cluster yet.
pub(super) fn welcome(mesh: &MeshContext) -> Result<Welcome, HandshakeError> {
    let own = mesh.consensus.identity().ok_or(HandshakeError::NoCluster)?;
    let node = mesh.name.clone();
    Ok(Welcome { id: own.node.0, cluster: own.cluster, node, ..Welcome::default() })
}

/// Checks that the node that answered is the one that was dialled.
///
/// # Errors
/// A node of another cluster, or another member, answers at this address.
pub(super) fn check_welcome(
    mesh: &MeshContext,
    welcome: &Welcome,
    dialled: Option<NodeId>,
) -> Result<(), HandshakeError> {
    if mesh.consensus.cluster() != Some(welcome.cluster) {
        return Err(HandshakeError::WelcomeOfOtherCluster);
    }
    if dialled.is_some_and(|dialled| dialled.0 != welcome.id) {
        return Err(HandshakeError::WelcomeOfOtherMember);
    }
    Ok(())
}
