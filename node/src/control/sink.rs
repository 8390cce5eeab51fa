//! The bounded channel between a list or watch and its reader.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;

/// How long a reader may leave a page waiting before its list is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where pages go.
pub(super) struct Sink<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Sink<T> {
    /// Sends into this channel.
    pub(super) fn new(sender: mpsc::Sender<Result<T, Status>>) -> Self {
        Sink(sender)
    }

    /// Whether the reader has room for one more within its time.
    pub(super) async fn send(&self, page: T) -> bool {
        matches!(timeout(PATIENCE, self.0.send(Ok(page))).await, Ok(Ok(())))
    }
}
