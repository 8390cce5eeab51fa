//! Being an edge.

use std::fmt;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use limes_wire::frame::Role;
use tokio::sync::watch;

use crate::call::{Call, Failed};
use crate::client::{Client, Handle, State};
use crate::error::{CallError, ConnectError, OpenError, PublishError};
use crate::message::Message;
use crate::options::{Options, common_options};
use crate::stream::{Incoming, Stream};

/// Makes an [`Edge`].
#[derive(Debug, Clone)]
#[must_use]
pub struct EdgeBuilder(Options);

impl EdgeBuilder {
    common_options!();

    /// A resume ticket from an earlier process: the edge gets the same id again.
    pub fn ticket(mut self, ticket: impl Into<Bytes>) -> Self {
        self.0.ticket = ticket.into();
        self
    }

    /// Connects: to the first of the addresses that answers, and then to whichever of the cluster's nodes
    /// serves.
    ///
    /// # Errors
    /// [`ConnectError`]: refused for good, or nobody reached in time.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), limes_sdk::ConnectError> {
    /// let edge = limes_sdk::Edge::builder().address("127.0.0.1:30012").meta("a thermometer").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<Edge, ConnectError> {
        Ok(Edge(Client::connect(self.0).await?))
    }
}

/// A connected edge; cheap to clone. It reconnects by itself until [`Edge::close`] or until the last
/// clone is dropped.
#[derive(Clone)]
pub struct Edge(Arc<Handle>);

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Edge {
    /// Begins to make an edge.
    pub fn builder() -> EdgeBuilder {
        EdgeBuilder(Options::new(Role::Edge, ""))
    }

    /// This edge's id.
    pub fn id(&self) -> u64 {
        self.0.id.load(Ordering::Acquire)
    }

    /// The latest resume ticket: kept by a process, it keeps the id over restarts.
    pub fn ticket(&self) -> Bytes {
        self.0.ticket.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows whether the edge is connected.
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Calls a method that some service offers. While there is no connection, or too much is in flight,
    /// it waits, within its deadline; what certainly was not run because the connection went away is
    /// sent again on the next one.
    ///
    /// # Errors
    /// [`CallError`] says whether the call may have run.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; it may have run.
    ///
    /// ```no_run
    /// # async fn example(edge: limes_sdk::Edge) -> Result<(), limes_sdk::CallError> {
    /// let reply = edge.call("greet", "world").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn call(&self, method: &str, body: impl Into<Bytes>) -> Result<Bytes, CallError> {
        self.call_within(method, body, self.0.options.call_timeout).await
    }

    /// As [`Edge::call`], with a deadline.
    ///
    /// # Errors
    /// As [`Edge::call`].
    ///
    /// # Cancel safety
    /// As [`Edge::call`].
    pub async fn call_within(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        time: Duration,
    ) -> Result<Bytes, CallError> {
        self.0.request(false, 0, method, body.into(), time).await
    }

    /// Answers a method that services call. A later handler for the method replaces an earlier one.
    pub fn register<F, A>(&self, method: &str, handler: F)
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Bytes, Failed>> + Send + 'static,
    {
        self.0.methods.insert(method, handler);
    }

    /// Sends a message to some service that takes the topic; returns when it has been acknowledged. It
    /// waits as [`Edge::call`] does.
    ///
    /// # Errors
    /// [`PublishError`] says whether it may have been taken.
    ///
    /// # Cancel safety
    /// Dropping the future leaves unknown whether it is taken.
    pub async fn publish(&self, topic: &str, body: impl Into<Bytes>) -> Result<(), PublishError> {
        self.0.request(true, 0, topic, body.into(), self.0.options.call_timeout).await.map(drop)
    }

    /// The next message to this edge; `None` once the edge is closed. Those that nobody receives wait,
    /// up to 1,024; the publishers of more are told "busy".
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn receive(&self) -> Option<Message> {
        self.0.receive().await
    }

    /// Opens a stream to a service by its name; returns when it has accepted.
    ///
    /// # Errors
    /// [`OpenError`]: nobody by that name, or it did not accept.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream.
    pub async fn open_stream(&self, service: &str, meta: impl Into<Bytes>) -> Result<Stream, OpenError> {
        self.0.open_stream(0, service, meta.into()).await
    }

    /// The next stream that a service has opened to this edge; `None` once the edge is closed.
    ///
    /// # Cancel safety
    /// No stream is lost.
    pub async fn accept_stream(&self) -> Option<Incoming> {
        self.0.accept_stream().await
    }

    /// Lets calls in flight and handlers end, for 5 s at most, and says good-bye; the edge does not come
    /// back, and open streams are reset.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: the edge closes all the same.
    pub async fn close(&self) {
        self.0.close().await;
    }
}
