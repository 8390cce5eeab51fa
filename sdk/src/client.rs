//! What [`Edge`](crate::Edge) and [`Service`](crate::Service) have in common.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{PushError, RecordStream};
use limes_wire::frame::Ran;
use limes_wire::stream::Open;
use limes_wire::{Code, Str, limits};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout_at;

use crate::call::Methods;
use crate::error::{CallError, ConnectError, Kind};
use crate::link::{Mail, Naming, Outbox, Request};
use crate::message::Message;
use crate::options::Options;
use crate::reconnect;
use crate::stream::{Incoming, Stream};

/// Messages that wait to be received; past it their publishers are told "busy".
const MESSAGES: usize = 1_024;
/// Streams that wait to be accepted; past it their openers are told "busy".
const STREAMS: usize = 64;

/// Whether a client is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// To this node.
    Connected(String),
    /// Looking for a node.
    Connecting,
    /// Closed by [`close`](crate::Edge::close), or refused for good.
    Closed,
}

/// A bounded queue to the user: the sender here, the receiver behind a lock that only its readers
/// take.
pub(crate) struct Queue<T>(pub(crate) mpsc::Sender<T>, tokio::sync::Mutex<mpsc::Receiver<T>>);

impl<T> Queue<T> {
    fn new(size: usize) -> Self {
        let (sender, receiver) = mpsc::channel(size);
        Queue(sender, tokio::sync::Mutex::new(receiver))
    }

    async fn next(&self) -> Option<T> {
        self.1.lock().await.recv().await
    }
}

/// One client, whatever its role.
pub(crate) struct Client {
    pub(crate) options: Options,
    pub(crate) methods: Methods,
    pub(crate) messages: Queue<Message>,
    pub(crate) streams: Queue<Incoming>,
    pub(crate) topics: Mutex<BTreeSet<String>>,
    pub(crate) id: AtomicU64,
    pub(crate) ticket: Mutex<Bytes>,
    pub(crate) state: watch::Sender<State>,
    /// The connection in use.
    pub(crate) current: watch::Sender<Option<Outbox>>,
    last: AtomicU64,
}

/// The user's hold on a client: when the last is dropped, the client closes.
pub(crate) struct Handle(Arc<Client>);

impl std::ops::Deref for Handle {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.state.send_replace(State::Closed);
        if let Some(outbox) = self.0.current.send_replace(None) {
            outbox.push_always(Mail::Close);
        }
    }
}

/// Sends a cancel when its call's future is dropped before the answer.
struct CancelOnDrop<'a> {
    outbox: &'a Outbox,
    id: u64,
    armed: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.outbox.push_always(Mail::Cancel(self.id));
        }
    }
}

impl Client {
    /// Connects for the first time and keeps connected from then on.
    pub(crate) async fn connect(options: Options) -> Result<Arc<Handle>, ConnectError> {
        if options.addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        let client = Arc::new(Client {
            methods: Methods::default(),
            messages: Queue::new(MESSAGES),
            streams: Queue::new(STREAMS),
            topics: Mutex::default(),
            id: AtomicU64::new(0),
            ticket: Mutex::new(options.ticket.clone()),
            state: watch::Sender::new(State::Connecting),
            current: watch::Sender::new(None),
            last: AtomicU64::new(0),
            options,
        });
        let handle = Arc::new(Handle(client));
        reconnect::start(&handle.0).await?;
        Ok(handle)
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The connection in use; waits for one until the deadline.
    async fn outbox(&self, deadline: Instant) -> Result<Outbox, CallError> {
        let mut current = self.current.subscribe();
        let mut state = self.state.subscribe();
        let open = current.wait_for(|outbox| outbox.as_ref().is_some_and(|outbox| !outbox.is_closed()));
        tokio::select! {
            biased;
            found = timeout_at(deadline.into(), open) => match found {
                Ok(Ok(outbox)) => outbox.clone().ok_or_else(CallError::not_sent),
                Ok(Err(_)) => Err(CallError::closed()),
                Err(_) => Err(CallError::not_sent()),
            },
            _ = state.wait_for(|state| *state == State::Closed) => Err(CallError::closed()),
        }
    }

    /// Sends a call or message and waits for its end. What certainly was not sent because the
    /// connection went away is sent again on the next one, within the deadline.
    pub(crate) async fn request(
        &self,
        is_message: bool,
        peer: u64,
        name: &str,
        body: Bytes,
        time: Duration,
    ) -> Result<Bytes, CallError> {
        if name.len() > limits::NAME_MAX || body.len() > limits::FRAME_BODY_MAX {
            return Err(CallError::coded(Code::TOO_LARGE, Ran::No, "the name or the body is over its limit"));
        }
        let deadline = Instant::now() + time;
        let name = Str::from(name);
        loop {
            let outbox = self.outbox(deadline).await?;
            match self.attempt(&outbox, is_message, peer, name.clone(), body.clone(), deadline).await {
                Err(error) if !error.may_have_run() && is_passing(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                result => return result,
            }
        }
    }

    async fn attempt(
        &self,
        outbox: &Outbox,
        is_message: bool,
        peer: u64,
        name: Str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let (tell, told) = oneshot::channel();
        let id = self.next_id();
        let bytes = body.len();
        let request = Request { id, is_message, peer, name, body, deadline, tell };
        match outbox.push(Mail::Send(request), bytes) {
            Ok(()) => {}
            Err(PushError::Full(_)) => {
                return Err(CallError::coded(Code::BUSY, Ran::No, "this client's own queue is full"));
            }
            Err(PushError::Closed(_)) => return Err(CallError::not_sent()),
        }
        let mut cancel = CancelOnDrop { outbox, id, armed: true };
        // The gateway keeps the deadline; a gateway that does not answer is given a little longer.
        let late = deadline + Duration::from_millis(500);
        let result = timeout_at(late.into(), told).await;
        match result {
            Ok(result) => {
                cancel.armed = false;
                result.unwrap_or_else(|_| Err(CallError::cut()))
            }
            Err(_) => Err(CallError::timeout(Ran::Maybe)),
        }
    }

    /// Tells the gateway about methods or topics, on one connection.
    pub(crate) async fn names(
        &self,
        outbox: &Outbox,
        naming: Naming,
        names: Vec<String>,
        time: Duration,
    ) -> Result<(), CallError> {
        for some in names.chunks(limits::NAMES_MAX) {
            let (tell, told) = oneshot::channel();
            let some = some.iter().map(|name| Str::from(name.as_str())).collect();
            if !outbox.push_always(Mail::Names(naming, self.next_id(), some, tell)) {
                return Err(CallError::not_sent());
            }
            let told = tokio::time::timeout(time, told).await;
            told.map_err(|_| CallError::timeout(Ran::Maybe))?.unwrap_or_else(|_| Err(CallError::cut()))?;
        }
        Ok(())
    }

    /// Changes names on the connection in use. If it breaks meanwhile, the next one brings the
    /// names along: they are noted already.
    pub(crate) async fn change(&self, naming: Naming, names: Vec<String>) -> Result<(), CallError> {
        let deadline = Instant::now() + self.options.call_timeout;
        loop {
            let outbox = self.outbox(deadline).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.names(&outbox, naming, names.clone(), left).await {
                Err(error) if error.kind() == Kind::Disconnected && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                result => return result,
            }
        }
    }

    pub(crate) async fn open_stream(&self, peer: u64, name: &str, meta: Bytes) -> Result<Stream, CallError> {
        if name.len() > limits::NAME_MAX || meta.len() > limits::META_MAX {
            return Err(CallError::coded(Code::TOO_LARGE, Ran::No, "the name or the meta is over its limit"));
        }
        let time = self.options.call_timeout;
        let deadline = Instant::now() + time;
        let outbox = self.outbox(deadline).await?;
        let (opened, stream) = oneshot::channel();
        outbox.push(Mail::Open(opened), 0).map_err(|_| CallError::not_sent())?;
        let open = Open { peer, name: name.into(), deadline: time, meta };
        let work = async {
            let stream = stream.await.map_err(|_| CallError::not_sent())?;
            let stream = stream.map_err(|code| CallError::coded(code, Ran::No, "no more streams here"))?;
            let mut stream = RecordStream::new(stream);
            let failed = |error: limes_wire::driver::StreamError| {
                CallError::coded(error.code(), Ran::Maybe, error.to_string())
            };
            stream.write_open(&open).await.map_err(failed)?;
            stream.read_accept().await.map_err(|error| {
                // Refused in words: nobody has it. Cut: somebody may have accepted.
                let refused = matches!(error, limes_wire::driver::StreamError::Reset { .. });
                let ran = if refused { Ran::No } else { Ran::Maybe };
                CallError::coded(error.code(), ran, error.to_string())
            })?;
            Ok(Stream(stream))
        };
        timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(CallError::timeout(Ran::Maybe)))
    }

    pub(crate) async fn receive(&self) -> Option<Message> {
        self.until_closed(self.messages.next()).await
    }

    pub(crate) async fn accept_stream(&self) -> Option<Incoming> {
        self.until_closed(self.streams.next()).await
    }

    async fn until_closed<T>(&self, next: impl Future<Output = Option<T>>) -> Option<T> {
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            item = next => item,
            _ = state.wait_for(|state| *state == State::Closed) => None,
        }
    }

    pub(crate) fn note_topics(&self, topics: &[String], on: bool) {
        let mut noted = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in topics {
            if on {
                noted.insert(topic.clone());
            } else {
                noted.remove(topic);
            }
        }
    }

    /// Says good-bye and reconnects no more.
    pub(crate) async fn close(&self) {
        self.state.send_replace(State::Closed);
        let outbox = self.current.send_replace(None);
        if let Some(outbox) = outbox {
            outbox.push_always(Mail::Close);
            let until = Instant::now() + limits::LINGER;
            while !outbox.is_closed() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

/// Whether an error is one of a connection on its way out, not of what was asked for.
fn is_passing(error: &CallError) -> bool {
    error.kind() == Kind::Disconnected || error.code() == Code::DRAINING
}
