//! Streams of pages to readers that may be slow.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::tasks;

/// Pages that wait for a slow reader.
const QUEUED: usize = 2;
/// How long a reader may leave a page waiting before its stream ends.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The stream of a gRPC answer.
pub(super) type Pages<T> = ReceiverStream<Result<T, Status>>;

/// Answers with the pages that `work` sends. `work` runs in a task of its own, so that a slow reader
/// blocks nothing else.
pub(super) fn pages<T, F>(work: impl FnOnce(Sink<T>) -> F) -> Response<Pages<T>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sink, pages) = mpsc::channel(QUEUED);
    let reader = sink.clone();
    let work = work(Sink(sink));
    tasks::spawn(tasks::Kind::Operator, async move {
        tokio::select! {
            () = work => {}
            // The reader is gone, or its connection was closed because the node stops.
            () = reader.closed() => {}
        }
    });
    Response::new(ReceiverStream::new(pages))
}

/// The sending half of a stream of pages.
pub(super) struct Sink<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Sink<T> {
    /// Sends a page. Returns false if the reader is gone or has left [`QUEUED`] pages waiting for
    /// [`READ_TIMEOUT`]; the stream should end then.
    pub(super) async fn send(&self, page: T) -> bool {
        matches!(timeout(READ_TIMEOUT, self.0.send(Ok(page))).await, Ok(Ok(())))
    }
}
