//! How two nodes find out that they belong together.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use limes_routing::NodeId;
use limes_wire::Code;
use limes_wire::frame::{GoAway, Hello, Role, Welcome};

use super::context::MeshContext;

/// Bytes of a node's meta: the cluster's id, its own number, and the number of the node it dials.
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

/// The number of the node that said hello.
///
/// # Errors
/// It is no node, a node of another cluster, or means another member.
pub(super) fn check(mesh: &MeshContext, hello: &Hello) -> Result<NodeId, GoAway> {
    let refuse = |code, text: &str| Err(GoAway::new(code, text));
    if hello.role != Role::Node {
        return refuse(Code::PROTOCOL, "the mesh port is for nodes; edges and services have their own");
    }
    let mut meta: Bytes = hello.meta.clone();
    if meta.len() < META {
        return refuse(
            Code::PROTOCOL,
            "a node's hello names its cluster, its number and the member that it dials",
        );
    }
    let cluster = meta.split_to(16);
    let number = NodeId(meta.get_u64());
    let Some(own) = mesh.consensus.identity() else {
        return refuse(Code::WRONG_CLUSTER, "this node belongs to no cluster yet");
    };
    if cluster[..] != own.cluster {
        return refuse(Code::WRONG_CLUSTER, "this node belongs to another cluster");
    }
    if meta.get_u64() != own.node.0 {
        return refuse(Code::WRONG_CLUSTER, "another member is meant than the one at this address");
    }
    Ok(number)
}

/// The welcome to another node; `None`: this node belongs to no cluster yet.
pub(super) fn welcome(mesh: &MeshContext) -> Option<Welcome> {
    let own = mesh.consensus.identity()?;
    let node = mesh.name.clone();
    Some(Welcome { id: own.node.0, cluster: own.cluster, node, ..Welcome::default() })
}

/// Checks that the node that answered is the one that was dialled.
///
/// # Errors
/// A node of another cluster, or another member, answers at this address.
pub(super) fn check_welcome(
    mesh: &MeshContext,
    welcome: &Welcome,
    dialled: Option<NodeId>,
) -> Result<(), GoAway> {
    if mesh.consensus.cluster() != Some(welcome.cluster) {
        return Err(GoAway::new(Code::WRONG_CLUSTER, "the node at this address is of another cluster"));
    }
    if dialled.is_some_and(|dialled| dialled.0 != welcome.id) {
        return Err(GoAway::new(Code::WRONG_CLUSTER, "another member answers at this address"));
    }
    Ok(())
}
