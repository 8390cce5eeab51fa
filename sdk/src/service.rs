//! The client of a service.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use limes_wire::callback::{EDGE_OFFLINE, EDGE_ONLINE, EdgeFacts, GET_EDGE_ID};
use limes_wire::frame::Role;
use limes_wire::limits;
use tokio::sync::watch;

use crate::call::{Call, Failed};
use crate::client::{Handle, State};
use crate::command::{NameChange, RequestKind};
use crate::error::{CallError, ConnectError, OpenError, PublishError};
use crate::message::Message;
use crate::options::{Options, common_options};
use crate::reconnect;
use crate::request::{NewRequest, check_names};
use crate::stream::{Incoming, Stream};

/// Builds a [`Service`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ServiceBuilder(Options);

impl ServiceBuilder {
    common_options!();

    /// Identifies this instance among others of the service: a new connection with the same token replaces an old one
    /// that is half-open.
    pub fn instance(mut self, token: [u8; 16]) -> Self {
        self.0.instance = Some(token);
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
    /// let service = limes_sdk::Service::builder("greeter").address("127.0.0.1:30011").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<Service, ConnectError> {
        Ok(Service(reconnect::connect(self.0).await?))
    }
}

/// A connected service; cheap to clone. One connection to any one node reaches every edge of the
/// cluster. It reconnects by itself, with its methods and topics, until [`Service::close`], or until the last clone
/// is dropped.
#[derive(Clone)]
pub struct Service(Arc<Handle>);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.0.options.name).finish_non_exhaustive()
    }
}

impl Service {
    /// A builder of a service of this name. Several instances may share a name.
    pub fn builder(name: &str) -> ServiceBuilder {
        ServiceBuilder(Options::new(Role::Service, name))
    }

    /// The id of this instance's current session.
    pub fn id(&self) -> u64 {
        self.0.id.load(Ordering::Acquire)
    }

    /// Follows whether the service is connected.
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Calls a method of an edge, at whichever node it is connected. While there is no connection, or too much is in
    /// flight, the call waits within its deadline. A call that certainly did not run because its connection went
    /// away is sent again on the next one.
    ///
    /// # Errors
    /// [`CallError`], which tells whether the call may have run.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; it may have run.
    pub async fn call(&self, edge: u64, method: &str, body: impl Into<Bytes>) -> Result<Bytes, CallError> {
        self.call_within(edge, method, body, self.0.options.call_timeout).await
    }

    /// As [`Service::call`], with this time limit.
    ///
    /// # Errors
    /// As [`Service::call`].
    ///
    /// # Cancel safety
    /// As [`Service::call`].
    pub async fn call_within(
        &self,
        edge: u64,
        method: &str,
        body: impl Into<Bytes>,
        time: Duration,
    ) -> Result<Bytes, CallError> {
        let request =
            NewRequest { kind: RequestKind::Call, peer: Some(edge), name: method, body: body.into(), time };
        self.0.request(request).await
    }

    /// Offers a method. When this returns, every node routes calls of the method to this service.
    ///
    /// # Errors
    /// - The cluster refused, for example past `limits.names`, or the name is longer than 255 bytes: the method is
    ///   not offered.
    /// - The cluster did not agree in time, or there was no connection: the client keeps the method and brings it to
    ///   its next connection; it is offered as soon as the cluster agrees.
    ///
    /// # Cancel safety
    /// Dropping the future keeps the method: the next connection offers it at the latest.
    ///
    /// ```no_run
    /// # async fn example(service: limes_sdk::Service) -> Result<(), limes_sdk::CallError> {
    /// service.register("greet", |call| async move { Ok([b"hello ", &call.body[..]].concat().into()) }).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn register<F, A>(&self, method: &str, handler: F) -> Result<(), CallError>
    where
        F: Fn(Call) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Bytes, Failed>> + Send + 'static,
    {
        let names = vec![method.to_owned()];
        check_names(&names)?;
        let previous = self.0.methods.insert(method, handler);
        let result = self.0.change_names(NameChange::Register, &names).await;
        if result.as_ref().is_err_and(CallError::is_refusal) {
            self.0.methods.restore(method, previous);
        }
        result
    }

    /// Stops offering a method.
    ///
    /// # Errors
    /// The cluster did not agree in time; calls that still arrive get the error "no method".
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn withdraw(&self, method: &str) -> Result<(), CallError> {
        self.0.methods.remove(method);
        self.0.change_names(NameChange::Withdraw, &[method.to_owned()]).await
    }

    /// Takes messages of these topics; [`Service::receive`] gives them.
    ///
    /// # Errors
    /// As [`Service::register`].
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn subscribe<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), CallError> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        check_names(&topics)?;
        for chunk in topics.chunks(limits::NAMES_MAX) {
            let new = self.0.note_topics(chunk, true);
            let result = self.0.change_names(NameChange::Subscribe, chunk).await;
            if result.as_ref().is_err_and(CallError::is_refusal) {
                self.0.note_topics(&new, false);
            }
            result?;
        }
        Ok(())
    }

    /// Stops taking messages of these topics.
    ///
    /// # Errors
    /// As [`Service::withdraw`].
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn unsubscribe<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), CallError> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        self.0.note_topics(&topics, false);
        self.0.change_names(NameChange::Unsubscribe, &topics).await
    }

    /// Sends a message to an edge; returns when the edge has acknowledged it.
    ///
    /// # Errors
    /// [`PublishError`], which tells whether the receiver may have taken it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the receiver takes the message.
    pub async fn publish(&self, edge: u64, topic: &str, body: impl Into<Bytes>) -> Result<(), PublishError> {
        let (kind, time) = (RequestKind::Message, self.0.options.call_timeout);
        let request = NewRequest { kind, peer: Some(edge), name: topic, body: body.into(), time };
        self.0.request(request).await.map(drop)
    }

    /// The next message of a topic that this service takes; `None` once the service is closed. Up to 1,024 messages
    /// wait to be received; the publishers of more get the error "busy".
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn receive(&self) -> Option<Message> {
        self.0.receive().await
    }

    /// Opens a stream to an edge; returns when the edge has accepted it.
    ///
    /// # Errors
    /// [`OpenError`]: no such edge, or it did not accept.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream.
    pub async fn open_stream(
        &self,
        edge: u64,
        name: &str,
        meta: impl Into<Bytes>,
    ) -> Result<Stream, OpenError> {
        self.0.open_stream(Some(edge), name, meta.into()).await
    }

    /// The next stream that an edge has opened to this service; `None` once it is closed.
    ///
    /// # Cancel safety
    /// No stream is lost.
    pub async fn accept_stream(&self) -> Option<Incoming> {
        self.0.accept_stream().await
    }

    /// Sets the handler that decides the id of each connecting edge; its error refuses the edge.
    ///
    /// # Errors
    /// As [`Service::register`].
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn on_get_edge_id<F, A>(&self, decide: F) -> Result<(), CallError>
    where
        F: Fn(EdgeFacts) -> A + Send + Sync + 'static,
        A: Future<Output = Result<u64, Failed>> + Send + 'static,
    {
        let decide = Arc::new(decide);
        self.register(GET_EDGE_ID, move |call| {
            let decide = decide.clone();
            async move { Ok(Bytes::copy_from_slice(&decide(facts(&call)?).await?.to_be_bytes())) }
        })
        .await
    }

    /// Sets the handler that runs when an edge connects; its error refuses the edge.
    ///
    /// # Errors
    /// As [`Service::register`].
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn on_edge_online<F, A>(&self, handler: F) -> Result<(), CallError>
    where
        F: Fn(EdgeFacts) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Failed>> + Send + 'static,
    {
        self.on_edge(EDGE_ONLINE, handler).await
    }

    /// Sets the handler that runs when an edge has gone: at least once, also if the edge's node died.
    ///
    /// # Errors
    /// As [`Service::register`].
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn on_edge_offline<F, A>(&self, handler: F) -> Result<(), CallError>
    where
        F: Fn(EdgeFacts) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Failed>> + Send + 'static,
    {
        self.on_edge(EDGE_OFFLINE, handler).await
    }

    async fn on_edge<F, A>(&self, method: &str, handler: F) -> Result<(), CallError>
    where
        F: Fn(EdgeFacts) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Failed>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.register(method, move |call| {
            let handler = handler.clone();
            async move { handler(facts(&call)?).await.map(|()| Bytes::new()) }
        })
        .await
    }

    /// Closes the service for good: calls and handlers in flight may end within 5 s, open streams are reset.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the close.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

fn facts(call: &Call) -> Result<EdgeFacts, Failed> {
    EdgeFacts::decode(call.body.clone()).map_err(|error| Failed::new(error.to_string()))
}
