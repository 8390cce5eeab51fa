//! Being a service.

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
use crate::client::{Client, Handle, State, check_names};
use crate::error::{CallError, ConnectError, OpenError, PublishError};
use crate::link::Naming;
use crate::message::Message;
use crate::options::{Options, common_options};
use crate::stream::{Incoming, Stream};

/// Makes a [`Service`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ServiceBuilder(Options);

impl ServiceBuilder {
    common_options!();

    /// Tells this instance apart from others of the service: a new connection with the same token
    /// takes the place of an old one that is half-open.
    pub fn instance(mut self, token: [u8; 16]) -> Self {
        self.0.instance = token;
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
    /// let service = limes_sdk::Service::builder("greeter").address("127.0.0.1:30011").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<Service, ConnectError> {
        Ok(Service(Client::connect(self.0).await?))
    }
}

/// A connected service; cheap to clone. One connection to any one node reaches every edge of the
/// cluster. It reconnects by itself, with its methods and topics, until [`Service::close`] or until
/// the last clone is dropped.
#[derive(Clone)]
pub struct Service(Arc<Handle>);

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.0.options.name).finish_non_exhaustive()
    }
}

impl Service {
    /// Begins to make a service of this name. Several instances may share a name.
    pub fn builder(name: &str) -> ServiceBuilder {
        ServiceBuilder(Options::new(Role::Service, name))
    }

    /// The id of this instance's present session.
    pub fn id(&self) -> u64 {
        self.0.id.load(Ordering::Acquire)
    }

    /// Follows whether the service is connected.
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Calls a method of an edge, wherever it is connected. While there is no connection, or too much is
    /// in flight, it waits, within its deadline; what certainly was not run because the connection went
    /// away is sent again on the next one.
    ///
    /// # Errors
    /// [`CallError`] says whether the call may have run.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call; it may have run.
    pub async fn call(&self, edge: u64, method: &str, body: impl Into<Bytes>) -> Result<Bytes, CallError> {
        self.call_within(edge, method, body, self.0.options.call_timeout).await
    }

    /// As [`Service::call`], with a deadline.
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
        self.0.request(false, edge, method, body.into(), time).await
    }

    /// Offers a method. When this returns every node routes calls of it here.
    ///
    /// # Errors
    /// The cluster says no, as past `limits.names`, or the name is longer than 255 bytes: the method is not offered.
    /// The cluster did not agree in time, or there was no connection: the method is offered as soon as it does, and
    /// comes along to the next connection.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the method noted: it is offered at the latest by the next connection.
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
        let before = self.0.methods.insert(method, handler);
        let result = self.0.change(Naming::Register, names).await;
        if result.as_ref().is_err_and(CallError::is_no) {
            self.0.methods.put_back(method, before);
        }
        result
    }

    /// Offers a method no longer.
    ///
    /// # Errors
    /// The cluster did not agree in time; calls that still come are answered "no method".
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn withdraw(&self, method: &str) -> Result<(), CallError> {
        self.0.methods.remove(method);
        self.0.change(Naming::Withdraw, vec![method.to_owned()]).await
    }

    /// Takes messages of these topics, to be had from [`Service::receive`].
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
        for some in topics.chunks(limits::NAMES_MAX) {
            let new = self.0.note_topics(some, true);
            let result = self.0.change(Naming::Subscribe, some.to_vec()).await;
            if result.as_ref().is_err_and(CallError::is_no) {
                self.0.note_topics(&new, false);
            }
            result?;
        }
        Ok(())
    }

    /// Takes messages of these topics no longer.
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
        self.0.change(Naming::Unsubscribe, topics).await
    }

    /// Sends a message to an edge; returns when the edge has acknowledged it.
    ///
    /// # Errors
    /// [`PublishError`] says whether it may have been taken.
    ///
    /// # Cancel safety
    /// Dropping the future leaves unknown whether it is taken.
    pub async fn publish(&self, edge: u64, topic: &str, body: impl Into<Bytes>) -> Result<(), PublishError> {
        self.0.request(true, edge, topic, body.into(), self.0.options.call_timeout).await.map(drop)
    }

    /// The next message of a topic that this service takes; `None` once it is closed. Those that nobody
    /// receives wait, up to 1,024; the publishers of more are told "busy".
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn receive(&self) -> Option<Message> {
        self.0.receive().await
    }

    /// Opens a stream to an edge; returns when it has accepted.
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
        self.0.open_stream(edge, name, meta.into()).await
    }

    /// The next stream that an edge has opened to this service; `None` once it is closed.
    ///
    /// # Cancel safety
    /// No stream is lost.
    pub async fn accept_stream(&self) -> Option<Incoming> {
        self.0.accept_stream().await
    }

    /// Decides which id a connecting edge has; an error refuses the edge.
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

    /// Is told of each edge that connects; an error refuses it.
    ///
    /// # Errors
    /// As [`Service::register`].
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn on_edge_online<F, A>(&self, told: F) -> Result<(), CallError>
    where
        F: Fn(EdgeFacts) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Failed>> + Send + 'static,
    {
        self.on_edge(EDGE_ONLINE, told).await
    }

    /// Is told of each edge that has gone, at least once, also when the edge's node died.
    ///
    /// # Errors
    /// As [`Service::register`].
    ///
    /// # Cancel safety
    /// As [`Service::register`].
    pub async fn on_edge_offline<F, A>(&self, told: F) -> Result<(), CallError>
    where
        F: Fn(EdgeFacts) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Failed>> + Send + 'static,
    {
        self.on_edge(EDGE_OFFLINE, told).await
    }

    async fn on_edge<F, A>(&self, method: &str, told: F) -> Result<(), CallError>
    where
        F: Fn(EdgeFacts) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), Failed>> + Send + 'static,
    {
        let told = Arc::new(told);
        self.register(method, move |call| {
            let told = told.clone();
            async move { told(facts(&call)?).await.map(|()| Bytes::new()) }
        })
        .await
    }

    /// Lets calls in flight and handlers end, for 5 s at most, and says good-bye; the service does not
    /// come back, and open streams are reset.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing: the service closes all the same.
    pub async fn close(&self) {
        self.0.close().await;
    }
}

fn facts(call: &Call) -> Result<EdgeFacts, Failed> {
    EdgeFacts::decode(call.body.clone()).map_err(|error| Failed::new(error.to_string()))
}
