//! The connection in use, as the client's requests see it.

use std::sync::Arc;
use std::time::Instant;

use limes_wire::frame::{Execution, Welcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use crate::command::LinkHandle;
use crate::error::CallError;

/// Bytes of a body that one unit of [`Connection::units`] stands for.
const UNIT: usize = 256;

/// An open connection, and a bound on what is in flight on it. A request that the gateway would refuse as "busy"
/// waits here instead.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// Sends commands to the connection's task.
    pub(crate) link: LinkHandle,
    /// Cancelled when the connection is over and its last output written.
    pub(crate) ended: CancellationToken,
    /// Largest body that the gateway takes, in bytes.
    pub(crate) max_body: usize,
    /// Units of [`UNIT`] bytes that are free; each request takes at least one.
    free: Arc<Semaphore>,
    /// All units.
    units: u32,
}

impl Connection {
    /// A connection with the limits of its welcome.
    pub(crate) fn new(link: LinkHandle, ended: CancellationToken, welcome: &Welcome) -> Self {
        let units = welcome.max_calls.min(welcome.max_queued / UNIT as u32).max(1);
        let free = Arc::new(Semaphore::new(units as usize));
        Connection { link, ended, max_body: welcome.max_body as usize, free, units }
    }

    /// Whether the connection still takes commands.
    pub(crate) fn is_open(&self) -> bool {
        !self.link.is_closed()
    }

    /// Waits until a body of so many bytes fits within the gateway's limits; it counts until the permit is dropped.
    pub(crate) async fn reserve(
        &self,
        bytes: usize,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, CallError> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        if let Ok(permit) = self.free.clone().try_acquire_many_owned(units) {
            return Ok(permit);
        }
        match timeout_at(deadline.into(), self.free.clone().acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(CallError::not_sent()),
            Err(_) => Err(CallError::timeout(Execution::NotStarted)),
        }
    }
}
