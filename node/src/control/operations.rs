//! The operations on the cluster, independent of the protocol that asks for them.

use std::sync::Arc;

use limes_routing::{EdgeId, Event, ServiceId, Verdict};

use super::error::OperationError;
use super::reader::Reader;
use crate::router::edge_methods::{ByEdge, EdgeMethods};
use crate::router::peers::PeerTable;

/// The operations that one port offers.
pub(crate) struct Operations {
    reader: Reader,
    /// The methods of edges on this node.
    edge_methods: Arc<EdgeMethods>,
    /// The other nodes, which know the methods of their edges.
    peers: Arc<PeerTable>,
    /// Whether operations that change the cluster are refused.
    read_only: bool,
}

impl Operations {
    /// The operations of a port; `read_only` refuses those that change the cluster.
    pub(crate) fn new(
        reader: Reader,
        edge_methods: Arc<EdgeMethods>,
        peers: Arc<PeerTable>,
        read_only: bool,
    ) -> Self {
        Operations { reader, edge_methods, peers, read_only }
    }

    /// Reads of the tables.
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The methods of all edges of the cluster; queries every node that is up.
    ///
    /// # Errors
    /// [`OperationError::Unavailable`]: a node did not answer.
    pub(crate) async fn edge_methods(&self) -> Result<ByEdge, OperationError> {
        Ok(self.edge_methods.of_cluster(&self.peers).await?)
    }

    /// Ends the session of an edge, on whichever node it is. The edge's row is removed when this returns;
    /// the node that holds the session closes it on applying the removal.
    ///
    /// # Errors
    /// [`OperationError::NotFound`]: the edge is not connected. [`OperationError::ReadOnly`],
    /// [`OperationError::Starting`]: nothing was done. [`OperationError::Unavailable`]: it may still happen.
    ///
    /// # Cancel safety
    /// The kick may still happen if the future is dropped.
    pub(crate) async fn kick_edge(&self, edge: EdgeId) -> Result<(), OperationError> {
        self.change(Event::Kick { edge }).await
    }

    /// Ends all sessions of a service, on every node.
    ///
    /// # Errors
    /// As [`Operations::kick_edge`].
    ///
    /// # Cancel safety
    /// As [`Operations::kick_edge`].
    pub(crate) async fn kick_service(&self, service: ServiceId) -> Result<(), OperationError> {
        self.change(Event::KickService { service }).await
    }

    /// Proposes an event and waits until this node has applied it.
    async fn change(&self, event: Event) -> Result<(), OperationError> {
        if self.read_only {
            return Err(OperationError::ReadOnly);
        }
        let replica = self.reader.consensus().replica().ok_or(OperationError::Starting)?;
        match replica.propose_for_verdict(event).await {
            Ok((_, Verdict::Rejected(_))) => Err(OperationError::NotFound),
            Ok(_) => Ok(()),
            Err(error) => Err(OperationError::Unavailable(error.to_string())),
        }
    }
}
