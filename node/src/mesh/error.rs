//! Why two nodes are not linked.

use std::io;

use limes_wire::Code;
use limes_wire::frame::GoAway;

/// Why a dial did not become a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// This node cannot introduce itself.
    #[error("this node belongs to no cluster yet")]
    NoCluster,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other node refused the hello or closed the connection.
    #[error("the node did not send a welcome")]
    NoWelcome,
    /// The other node did not answer in time.
    #[error("no welcome in time")]
    Timeout,
}

/// Why a hello or a welcome of another node is refused. The text is sent to the other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    /// An edge or a service has come to the mesh port.
    #[error("the mesh port is for nodes; edges and services have their own")]
    Role,
    /// The meta of the hello is too short.
    #[error("a node's hello names its cluster, its number and the member that it dials")]
    Meta,
    /// This node does not know its own cluster.
    #[error("this node belongs to no cluster yet")]
    NoCluster,
    /// The hello is of another cluster.
    #[error("this node belongs to another cluster")]
    OtherCluster,
    /// The hello is for another node.
    #[error("another member is meant than the one at this address")]
    OtherMember,
    /// The welcome is of another cluster.
    #[error("the node at this address is of another cluster")]
    WelcomeOfOtherCluster,
    /// The welcome is of another node than the one that was dialled.
    #[error("another member answers at this address")]
    WelcomeOfOtherMember,
}

impl HandshakeError {
    /// The code that the other node gets.
    pub(super) fn code(self) -> Code {
        match self {
            HandshakeError::Role | HandshakeError::Meta => Code::PROTOCOL,
            HandshakeError::NoCluster
            | HandshakeError::OtherCluster
            | HandshakeError::OtherMember
            | HandshakeError::WelcomeOfOtherCluster
            | HandshakeError::WelcomeOfOtherMember => Code::WRONG_CLUSTER,
        }
    }

    /// The message that refuses the other node.
    pub(super) fn goaway(self) -> GoAway {
        GoAway::new(self.code(), self.to_string())
    }
}
