//! The state that [`Edge`](crate::Edge) and [`Service`](crate::Service) share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::limits;
use limes_wire::transport::tls::TlsClient;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use crate::call::Methods;
use crate::command::LinkCommand;
use crate::connection::Connection;
use crate::error::{CallError, ConnectError};
use crate::message::Message;
use crate::options::Options;
use crate::stream::Incoming;

/// Messages that wait to be received; the publishers of more get the error "busy".
const MESSAGES: usize = 1_024;
/// Streams that wait to be accepted; the openers of more get the error "busy".
const STREAMS: usize = 64;

/// How long a client that is closed lets calls and handlers end.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Whether a client is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Connected to the node of this name.
    Connected(String),
    /// Looking for a node.
    Connecting,
    /// Closed by [`close`](crate::Edge::close), replaced by another connection, or refused for good.
    Closed,
}

/// A bounded queue to the application. Only its readers take the receiver's lock.
pub(crate) struct Queue<T> {
    pub(crate) sender: mpsc::Sender<T>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<T>>,
}

impl<T> Queue<T> {
    fn new(size: usize) -> Self {
        let (sender, receiver) = mpsc::channel(size);
        Queue { sender, receiver: tokio::sync::Mutex::new(receiver) }
    }

    async fn next(&self) -> Option<T> {
        self.receiver.lock().await.recv().await
    }
}

/// One client of either role.
pub(crate) struct Client {
    pub(crate) options: Options,
    /// Handlers of calls.
    pub(crate) methods: Methods,
    /// Received messages.
    pub(crate) messages: Queue<Message>,
    /// Accepted streams.
    pub(crate) streams: Queue<Incoming>,
    /// Topics that a service takes.
    pub(crate) topics: Mutex<BTreeSet<String>>,
    /// The id that the gateway gave; set before the first connect returns.
    pub(crate) id: AtomicU64,
    /// The latest resume ticket; empty if there is none.
    pub(crate) ticket: Mutex<Bytes>,
    pub(crate) state: watch::Sender<State>,
    /// The connection in use.
    pub(crate) current: watch::Sender<Option<Connection>>,
    /// Cancelled when the client is closed.
    pub(crate) closed: CancellationToken,
    /// Dials with TLS; `None` dials in the clear.
    pub(crate) tls: Option<TlsClient>,
    last_id: AtomicU64,
}

/// The application's ownership of a client: dropping it closes the client.
pub(crate) struct Handle(pub(crate) Arc<Client>);

impl std::ops::Deref for Handle {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(connection) = self.0.shut() {
            connection.link.push_always(LinkCommand::Close);
        }
    }
}

impl Client {
    /// A client that is not connected yet.
    ///
    /// # Errors
    /// No address, or the TLS settings cannot be used.
    pub(crate) fn new(options: Options) -> Result<Client, ConnectError> {
        if options.addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let tls = options.tls.as_ref().map(crate::tls::Tls::client).transpose();
        let tls = tls.map_err(|error| ConnectError::Tls(error.to_string()))?;
        Ok(Client {
            tls,
            methods: Methods::default(),
            messages: Queue::new(MESSAGES),
            streams: Queue::new(STREAMS),
            topics: Mutex::default(),
            id: AtomicU64::new(0),
            ticket: Mutex::new(options.ticket.clone()),
            state: watch::Sender::new(State::Connecting),
            current: watch::Sender::new(None),
            closed: CancellationToken::new(),
            last_id: AtomicU64::new(0),
            options,
        })
    }

    /// A new id of a request.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether the client was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Changes the state, unless the client was closed.
    pub(crate) fn set_state(&self, new: State) {
        self.state.send_if_modified(|state| {
            let is_open = *state != State::Closed;
            if is_open {
                *state = new;
            }
            is_open
        });
    }

    /// Marks the client closed for good; gives the connection that was in use.
    pub(crate) fn shut(&self) -> Option<Connection> {
        self.state.send_replace(State::Closed);
        self.closed.cancel();
        self.current.send_replace(None)
    }

    /// The connection in use; waits for one until the deadline.
    pub(crate) async fn connection(&self, deadline: Instant) -> Result<Connection, CallError> {
        if !self.is_closed()
            && let Some(connection) = self.current.borrow().as_ref().filter(|current| current.is_open())
        {
            return Ok(connection.clone());
        }
        let mut current = self.current.subscribe();
        let open = current.wait_for(|current| current.as_ref().is_some_and(Connection::is_open));
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(CallError::closed()),
            found = timeout_at(deadline.into(), open) => match found {
                Ok(Ok(connection)) => connection.clone().ok_or_else(CallError::not_sent),
                Ok(Err(_)) => Err(CallError::closed()),
                Err(_) => Err(CallError::not_sent()),
            },
        }
    }

    /// The next message; `None` once the client is closed.
    pub(crate) async fn receive(&self) -> Option<Message> {
        self.until_closed(self.messages.next()).await
    }

    /// The next stream of a peer; `None` once the client is closed.
    pub(crate) async fn accept_stream(&self) -> Option<Incoming> {
        self.until_closed(self.streams.next()).await
    }

    /// What is queued already is given out even after the close.
    async fn until_closed<T>(&self, next: impl Future<Output = Option<T>>) -> Option<T> {
        tokio::select! {
            biased;
            item = next => item,
            () = self.closed.cancelled() => None,
        }
    }

    /// Adds or removes topics; gives those that were not there before, or were.
    pub(crate) fn note_topics(&self, topics: &[String], add: bool) -> Vec<String> {
        let mut noted = self.topics.lock();
        let mut change = |topic: &String| if add { noted.insert(topic.clone()) } else { noted.remove(topic) };
        topics.iter().filter(|topic| change(topic)).cloned().collect()
    }

    /// Closes the client: no reconnect from now on, calls and handlers in flight end within [`GRACE`], then the
    /// connection sends a go-away. Returns when that is written.
    pub(crate) async fn close(&self) {
        if let Some(connection) = self.shut() {
            let until = Instant::now() + GRACE;
            connection.link.push_always(LinkCommand::Finish { until, streams: false });
            let _ = timeout_at((until + limits::LINGER).into(), connection.ended.cancelled()).await;
        }
    }
}
