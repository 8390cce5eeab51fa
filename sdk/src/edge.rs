//! The client of an edge.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use limes_wire::frame::Role;
use tokio::sync::watch;

use crate::call::{Call, Failed};
use crate::client::{Handle, State};
use crate::command::RequestKind;
use crate::error::{CallError, ConnectError, OpenError, PublishError};
use crate::message::Message;
use crate::options::{Options, common_options};
use crate::reconnect;
use crate::request::NewRequest;
use crate::stream::{Incoming, Stream};

/// Builds an [`Edge`].
#[derive(Debug, Clone)]
#[must_use]
pub struct EdgeBuilder(Options);

impl EdgeBuilder {
    common_options!();

    /// Sets a resume ticket of an earlier process: the edge gets the same id again.
    pub fn ticket(mut self, ticket: impl Into<Bytes>) -> Self {
        self.0.ticket = ticket.into();
        self
    }

    /// Connects to the first address that answers. From then on the client keeps itself connected, to any node of
    /// the cluster.
    ///
    /// # Errors
    /// [`ConnectError`]: the cluster refuses the client, or no node was reached in time.
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
        Ok(Edge(reconnect::connect(self.0).await?))
    }
}

/// A connected edge; cheap to clone. It reconnects by itself until [`Edge::close`], or until the last clone is
/// dropped.
#[derive(Clone)]
pub struct Edge(Arc<Handle>);

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Edge {
    /// A builder of an edge.
    pub fn builder() -> EdgeBuilder {
        EdgeBuilder(Options::new(Role::Edge, ""))
    }

    /// This edge's id.
    pub fn id(&self) -> u64 {
        self.0.id.load(Ordering::Acquire)
    }

    /// The latest resume ticket: a process that stores it keeps the edge's id over restarts. Empty if the cluster
    /// gives none.
    pub fn ticket(&self) -> Bytes {
        self.0.ticket.lock().clone()
    }

    /// Follows whether the edge is connected.
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Calls a method that a service offers. While there is no connection, or too much is in flight, the call waits
    /// within its deadline. A call that certainly did not run because its connection went away is sent again on the
    /// next one.
    ///
    /// # Errors
    /// [`CallError`], which tells whether the call may have run.
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

    /// As [`Edge::call`], with this time limit.
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
        let request =
            NewRequest { kind: RequestKind::Call, peer: None, name: method, body: body.into(), time };
        self.0.request(request).await
    }

    /// Answers a method that services call. A later handler for the method replaces an earlier one.
    pub fn register<F, A>(&self, method: &str, handler: F)
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Bytes, Failed>> + Send + 'static,
    {
        self.0.methods.insert(method, handler);
    }

    /// Sends a message to a service that takes the topic; returns when the service has acknowledged it. It waits as
    /// [`Edge::call`] does.
    ///
    /// # Errors
    /// [`PublishError`], which tells whether the receiver may have taken it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the receiver takes the message.
    pub async fn publish(&self, topic: &str, body: impl Into<Bytes>) -> Result<(), PublishError> {
        let (kind, time) = (RequestKind::Message, self.0.options.call_timeout);
        let request = NewRequest { kind, peer: None, name: topic, body: body.into(), time };
        self.0.request(request).await.map(drop)
    }

    /// The next message to this edge; `None` once the edge is closed. Up to 1,024 messages wait to be received; the
    /// publishers of more get the error "busy".
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn receive(&self) -> Option<Message> {
        self.0.receive().await
    }

    /// Opens a stream to a service by its name; returns when the service has accepted it.
    ///
    /// # Errors
    /// [`OpenError`]: no service of that name, or it did not accept.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream.
    pub async fn open_stream(&self, service: &str, meta: impl Into<Bytes>) -> Result<Stream, OpenError> {
        self.0.open_stream(None, service, meta.into()).await
    }

    /// The next stream that a service has opened to this edge; `None` once the edge is closed.
    ///
    /// # Cancel safety
    /// No stream is lost.
    pub async fn accept_stream(&self) -> Option<Incoming> {
        self.0.accept_stream().await
    }

    /// Closes the edge for good: calls and handlers in flight may end within 5 s, open streams are reset.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the close.
    pub async fn close(&self) {
        self.0.close().await;
    }
}
