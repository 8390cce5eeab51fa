//! The handle through which the node reads and waits for its Raft replica.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use limes_raft::{BarrierError, Replica};
use limes_routing::{Epoch, NodeId, NodeRow, Revision, Tables};
use limes_wire::frame::Role;
use limes_wire::{Code, limits};
use tokio::sync::watch;

use super::departure::is_leaving;

/// The member number, cluster id and boot nonce of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    /// The member number.
    pub(crate) node: NodeId,
    /// The cluster's id.
    pub(crate) cluster: [u8; 16],
    /// The nonce of this start of the process.
    pub(crate) boot: [u8; 16],
}

/// Why the tables could not be brought up to date. A request that fails with it has not run.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ConsensusError {
    /// The replica has not been started yet.
    #[error("this node is still starting")]
    Starting,
    /// The cluster has no quorum, or the replica has stopped.
    #[error("the cluster cannot agree now: {0}")]
    NoQuorum(String),
    /// No agreement within the deadline.
    #[error("the cluster did not agree in time")]
    Timeout,
    /// This node did not apply the revision within the deadline.
    #[error("this node lags behind the cluster")]
    Lagging,
}

impl ConsensusError {
    /// The code that a peer sees.
    pub(crate) fn code(&self) -> Code {
        match self {
            ConsensusError::Starting | ConsensusError::NoQuorum(_) => Code::NO_QUORUM,
            ConsensusError::Timeout | ConsensusError::Lagging => Code::TIMEOUT,
        }
    }
}

impl From<BarrierError> for ConsensusError {
    fn from(error: BarrierError) -> Self {
        ConsensusError::NoQuorum(error.to_string())
    }
}

/// A cheap, cloneable handle: the replica once it is started, this node's identity and epoch, and whether it
/// takes new sessions.
#[derive(Clone, Default)]
pub(crate) struct Consensus(Arc<Shared>);

#[derive(Default)]
struct Shared {
    replica: OnceLock<Replica>,
    identity: OnceLock<Identity>,
    applied: AtomicU64,
    /// The first epoch of this process; 0 before. Atomic, hence the zero.
    first_epoch: AtomicU64,
    /// The live epoch; 0 before and while the node is fenced.
    epoch: AtomicU64,
    draining: AtomicBool,
    ready: watch::Sender<bool>,
}

impl Consensus {
    /// Sets the replica; later calls change nothing.
    pub(crate) fn attach(&self, replica: Replica) {
        let _ = self.0.replica.set(replica);
    }

    /// The replica, once it has been started.
    pub(crate) fn replica(&self) -> Option<&Replica> {
        self.0.replica.get()
    }

    /// Sets the identity; later calls change nothing.
    pub(crate) fn identify(&self, identity: Identity) {
        let _ = self.0.identity.set(identity);
    }

    /// This process's identity, once the replica has reported it.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.0.identity.get().copied()
    }

    /// This node's member number, once known.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.0.identity.get().map(|identity| identity.node)
    }

    /// Whether a member number is this node's.
    pub(crate) fn is_self(&self, node: NodeId) -> bool {
        self.node() == Some(node)
    }

    /// The cluster's id, once known.
    pub(crate) fn cluster(&self) -> Option<[u8; 16]> {
        self.0.identity.get().map(|identity| identity.cluster)
    }

    /// The newest revision that this node has applied.
    pub(crate) fn applied(&self) -> Revision {
        Revision(self.0.applied.load(Ordering::Acquire))
    }

    /// Records the newest applied revision.
    pub(crate) fn set_applied(&self, revision: Revision) {
        self.0.applied.store(revision.0, Ordering::Release);
    }

    /// The live epoch; `None` before the node is up and while it is fenced.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        match self.0.epoch.load(Ordering::Acquire) {
            0 => None,
            epoch => Some(Epoch(epoch)),
        }
    }

    /// Begins an epoch; true if it is the first of this process.
    pub(crate) fn begin_epoch(&self, epoch: Epoch) -> bool {
        let first = self.0.first_epoch.compare_exchange(0, epoch.0, Ordering::AcqRel, Ordering::Acquire);
        self.0.epoch.store(epoch.0, Ordering::Release);
        first.is_ok()
    }

    /// The node was declared down: it has no epoch until the next [`Consensus::begin_epoch`].
    pub(crate) fn fence(&self) {
        self.0.epoch.store(0, Ordering::Release);
    }

    /// Whether sessions numbered under this epoch belong to this process.
    pub(crate) fn is_own_epoch(&self, epoch: Epoch) -> bool {
        let first = self.0.first_epoch.load(Ordering::Acquire);
        first != 0 && epoch.0 >= first
    }

    /// Whether the tables hold this very start of the process.
    pub(crate) fn is_own_boot(&self, tables: &Tables) -> bool {
        self.identity().is_some_and(|own| tables.node(own.node).is_some_and(|row| row.boot == own.boot))
    }

    /// Whether the node is shutting down or drained.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Stops the admission of new sessions.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether the node has reached the quorum lately.
    pub(crate) fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Records whether the node reaches the quorum.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.0.ready.send_replace(ready);
    }

    /// Waits until the node reaches the quorum.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn wait_ready(&self) {
        let mut ready = self.0.ready.subscribe();
        // The sender is in the same allocation as this handle, so it is not dropped before.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Waits until this node has applied everything that was committed when this was called.
    ///
    /// # Errors
    /// [`ConsensusError`]: there is no quorum, or the deadline passed.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn barrier(&self, deadline: Instant) -> Result<(), ConsensusError> {
        let replica = self.replica().ok_or(ConsensusError::Starting)?;
        match tokio::time::timeout_at(deadline.into(), replica.barrier()).await {
            Ok(outcome) => Ok(outcome.map(|_| ())?),
            Err(_) => Err(ConsensusError::Timeout),
        }
    }

    /// Waits until this node has applied a revision.
    ///
    /// # Errors
    /// [`ConsensusError`]: the replica has stopped, or the deadline passed.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn wait_applied(
        &self,
        revision: Revision,
        deadline: Instant,
    ) -> Result<(), ConsensusError> {
        let replica = self.replica().ok_or(ConsensusError::Starting)?;
        match tokio::time::timeout_at(deadline.into(), replica.wait_applied(revision)).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(ConsensusError::Lagging),
        }
    }

    /// Addresses of the other live nodes that are not leaving, for peers of a role.
    pub(crate) fn other_addresses(&self, role: Role) -> Vec<String> {
        let Some(replica) = self.replica() else { return Vec::new() };
        replica.read(|tables| {
            let stays = |id, row: &NodeRow| !row.down && !row.draining && !is_leaving(tables, id, row);
            let others = tables.nodes().filter(|(id, row)| !self.is_self(*id) && stays(*id, row));
            let addresses = others.map(|(_, row)| match role {
                Role::Edge => row.addrs.edges.clone(),
                _ => row.addrs.services.clone(),
            });
            addresses.take(limits::PEERS_MAX).collect()
        })
    }
}
