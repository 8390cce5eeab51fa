//! Why an operation on the cluster failed.

use tonic::Status;

use crate::consensus::handle::ConsensusError;
use crate::router::edge_methods::EdgeMethodsError;

/// Why an operation on the cluster failed. Front ends turn it into the code of their protocol; the
/// conversion to [`Status`] is that of gRPC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OperationError {
    /// The edge, service or node does not exist.
    #[error("not found")]
    NotFound,
    /// The operation changes the cluster, and this port only allows reads.
    #[error("this control plane is read-only: it is reached beyond this machine without TLS")]
    ReadOnly,
    /// The node has not joined its cluster yet.
    #[error("this node is still starting")]
    Starting,
    /// The cluster cannot agree now. An operation that changes something may still happen.
    #[error("{0}")]
    Unavailable(String),
    /// Too many operations walk the tables, or the node is stopping.
    #[error("this node is busy with other lists, or stopping")]
    Busy,
    /// The task that walked the tables did not finish.
    #[error("the list was not finished: {0}")]
    Unfinished(String),
}

impl From<ConsensusError> for OperationError {
    fn from(error: ConsensusError) -> Self {
        match error {
            ConsensusError::Starting => OperationError::Starting,
            error => OperationError::Unavailable(error.to_string()),
        }
    }
}

impl From<EdgeMethodsError> for OperationError {
    fn from(error: EdgeMethodsError) -> Self {
        OperationError::Unavailable(error.to_string())
    }
}

impl From<OperationError> for Status {
    fn from(error: OperationError) -> Self {
        let text = error.to_string();
        match error {
            OperationError::NotFound => Status::not_found(text),
            OperationError::ReadOnly => Status::permission_denied(text),
            OperationError::Starting | OperationError::Unavailable(_) | OperationError::Busy => {
                Status::unavailable(text)
            }
            OperationError::Unfinished(_) => Status::internal(text),
        }
    }
}
