//! How two nodes find out that they belong together.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use limes_routing::NodeId;
use limes_wire::Code;
use limes_wire::frame::{GoAway, Hello, Role, Welcome};

use crate::node::Node;

/// Bytes of a node's meta: the cluster's id, its own number, and the number of the node it dials.
const META: usize = 32;

/// The hello that this node sends when it dials another.
pub(crate) fn ours(node: &Node, to: NodeId) -> Hello {
    let mut meta = BytesMut::with_capacity(META);
    meta.put_slice(&node.cluster());
    meta.put_u64(node.id().0);
    meta.put_u64(to.0);
    Hello { role: Role::Node, name: node.name().into(), meta: meta.freeze(), ..Hello::default() }
}

/// SessionOwner says hello, if it is a node of this cluster.
pub(crate) fn check(node: &Node, hello: &Hello) -> Result<NodeId, GoAway> {
    if hello.role != Role::Node {
        return Err(GoAway::new(
            Code::PROTOCOL,
            "the mesh port is for nodes; edges and services have their own",
        ));
    }
    let mut meta: Bytes = hello.meta.clone();
    if meta.len() < META {
        return Err(GoAway::new(
            Code::PROTOCOL,
            "a node's hello names its cluster, its number and whom it means",
        ));
    }
    let cluster = meta.split_to(16);
    let number = NodeId(meta.get_u64());
    if node.cluster() == [0; 16] {
        return Err(GoAway::new(Code::WRONG_CLUSTER, "this node belongs to no cluster yet"));
    }
    if cluster[..] != node.cluster() {
        return Err(GoAway::new(Code::WRONG_CLUSTER, "this node belongs to another cluster"));
    }
    if meta.get_u64() != node.id().0 {
        return Err(GoAway::new(Code::WRONG_CLUSTER, "another member is meant than the one at this address"));
    }
    Ok(number)
}

/// The welcome to another node.
pub(crate) fn answer(node: &Node) -> Welcome {
    Welcome { id: node.id().0, cluster: node.cluster(), node: node.name().into(), ..Welcome::default() }
}

/// Whether the node that answered is the one that was dialled.
pub(crate) fn check_answer(node: &Node, welcome: &Welcome, dialled: Option<NodeId>) -> Result<(), GoAway> {
    if welcome.cluster != node.cluster() {
        return Err(GoAway::new(Code::WRONG_CLUSTER, "the node at this address is of another cluster"));
    }
    if dialled.is_some_and(|dialled| dialled.0 != welcome.id) {
        return Err(GoAway::new(Code::WRONG_CLUSTER, "another member answers at this address"));
    }
    Ok(())
}
