//! What [`Edge`](crate::Edge) and [`Service`](crate::Service) have in common.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{PushError, RecordStream};
use limes_wire::frame::{Execution, Welcome};
use limes_wire::stream::Open;
use limes_wire::transport::tls::TlsClient;
use limes_wire::{Code, Str, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout_at;
use tracing::{Instrument, debug_span};

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

/// How long a client that is closed lets calls and handlers end.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How often whoever waits for something that does not wake it looks again.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of a body that count as one unit of [`Way::room`].
const UNIT: usize = 256;

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

/// A connection that requests may take, and how much the gateway takes on it at once: whoever would
/// be told "busy" for it waits here instead.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) outbox: Outbox,
    /// Units of [`UNIT`] bytes; each request takes at least one.
    room: Arc<Semaphore>,
    units: u32,
    /// Largest body that the gateway takes.
    max_body: usize,
}

impl Way {
    /// As the welcome allows it.
    pub(crate) fn new(outbox: Outbox, welcome: &Welcome) -> Self {
        let units = welcome.max_calls.min(welcome.max_queued / UNIT as u32).max(1);
        let room = Arc::new(Semaphore::new(units as usize));
        Way { outbox, room, units, max_body: welcome.max_body as usize }
    }

    /// Waits until a body of so many bytes fits in.
    async fn room_for(&self, bytes: usize, deadline: Instant) -> Result<OwnedSemaphorePermit, CallError> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        if let Ok(room) = self.room.clone().try_acquire_many_owned(units) {
            return Ok(room);
        }
        match timeout_at(deadline.into(), self.room.clone().acquire_many_owned(units)).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(CallError::not_sent()),
            Err(_) => Err(CallError::timeout(Execution::NotStarted)),
        }
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
    pub(crate) current: watch::Sender<Option<Way>>,
    /// Dials under TLS.
    pub(crate) tls: Option<TlsClient>,
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
        if let Some(way) = self.0.current.send_replace(None) {
            way.outbox.push_always(Mail::Close);
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
        let tls = options.tls.as_ref().map(crate::Tls::client).transpose();
        let tls = tls.map_err(|error| ConnectError::Tls(error.to_string()))?;
        let client = Arc::new(Client {
            tls,
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
    async fn way(&self, deadline: Instant) -> Result<Way, CallError> {
        let is_open = |way: &Option<Way>| way.as_ref().is_some_and(|way| !way.outbox.is_closed());
        if *self.state.borrow() != State::Closed
            && let Some(way) = self.current.borrow().as_ref().filter(|way| !way.outbox.is_closed())
        {
            return Ok(way.clone());
        }
        let mut current = self.current.subscribe();
        let mut state = self.state.subscribe();
        let open = current.wait_for(is_open);
        tokio::select! {
            biased;
            found = timeout_at(deadline.into(), open) => match found {
                Ok(Ok(way)) => way.clone().ok_or_else(CallError::not_sent),
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
            return Err(CallError::coded(
                Code::TOO_LARGE,
                Execution::NotStarted,
                "the name or the body is over its limit",
            ));
        }
        let deadline = Instant::now() + time;
        let span = debug_span!("limes.call", name, peer, is_message);
        let name = Str::from(name);
        let work = async {
            loop {
                let way = self.way(deadline).await?;
                match self.attempt(&way, is_message, peer, name.clone(), body.clone(), deadline).await {
                    Err(error)
                        if !error.may_have_run() && is_passing(&error) && Instant::now() < deadline =>
                    {
                        tokio::time::sleep(LOOK).await;
                    }
                    result => return result,
                }
            }
        };
        work.instrument(span).await
    }

    async fn attempt(
        &self,
        way: &Way,
        is_message: bool,
        peer: u64,
        name: Str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallError> {
        let bytes = body.len();
        if bytes > way.max_body {
            // It would cost the connection, and with it all that is in flight (PROTOCOL 9.2).
            let text = format!("a body of {bytes} bytes is over the cluster's limit of {}", way.max_body);
            return Err(CallError::coded(Code::TOO_LARGE, Execution::NotStarted, text));
        }
        let _room = way.room_for(bytes, deadline).await?;
        let outbox = &way.outbox;
        let (tell, told) = oneshot::channel();
        let id = self.next_id();
        let request = Request { id, is_message, peer, name, body, deadline, tell };
        match outbox.push(Mail::Send(request), bytes) {
            Ok(()) => {}
            Err(PushError::Full(_)) => {
                return Err(CallError::coded(
                    Code::BUSY,
                    Execution::NotStarted,
                    "this client's own queue is full",
                ));
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
            Err(_) => Err(CallError::timeout(Execution::Unknown)),
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
            told.map_err(|_| CallError::timeout(Execution::Unknown))?
                .unwrap_or_else(|_| Err(CallError::cut()))?;
        }
        Ok(())
    }

    /// Changes names on the connection in use. If it breaks meanwhile, the next one brings the
    /// names along: they are noted already.
    pub(crate) async fn change(&self, naming: Naming, names: Vec<String>) -> Result<(), CallError> {
        check_names(&names)?;
        let deadline = Instant::now() + self.options.call_timeout;
        loop {
            let outbox = self.way(deadline).await?.outbox;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.names(&outbox, naming, names.clone(), left).await {
                Err(error) if error.kind() == Kind::Disconnected && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                result => return result,
            }
        }
    }

    pub(crate) async fn open_stream(&self, peer: u64, name: &str, meta: Bytes) -> Result<Stream, CallError> {
        if name.len() > limits::NAME_MAX || meta.len() > limits::META_MAX {
            return Err(CallError::coded(
                Code::TOO_LARGE,
                Execution::NotStarted,
                "the name or the meta is over its limit",
            ));
        }
        let time = self.options.call_timeout;
        let deadline = Instant::now() + time;
        let outbox = self.way(deadline).await?.outbox;
        let (opened, stream) = oneshot::channel();
        outbox.push(Mail::Open(opened), 0).map_err(|_| CallError::not_sent())?;
        let open = Open { peer, name: name.into(), deadline: time, meta };
        let work = async {
            let stream = stream.await.map_err(|_| CallError::not_sent())?;
            let stream = stream
                .map_err(|code| CallError::coded(code, Execution::NotStarted, "no more streams here"))?;
            let mut stream = RecordStream::new(stream);
            let failed = |error: limes_wire::driver::StreamError| {
                CallError::coded(error.code(), Execution::Unknown, error.to_string())
            };
            stream.write_open(&open).await.map_err(failed)?;
            stream.read_accept().await.map_err(|error| {
                // Refused in words: nobody has it. Cut: somebody may have accepted.
                let refused = matches!(error, limes_wire::driver::StreamError::Reset { .. });
                let ran = if refused { Execution::NotStarted } else { Execution::Unknown };
                CallError::coded(error.code(), ran, error.to_string())
            })?;
            Ok(Stream(stream))
        };
        timeout_at(deadline.into(), work)
            .await
            .unwrap_or_else(|_| Err(CallError::timeout(Execution::Unknown)))
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

    /// Gives those that this has changed.
    pub(crate) fn note_topics(&self, topics: &[String], on: bool) -> Vec<String> {
        let mut noted = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut change = |topic: &String| if on { noted.insert(topic.clone()) } else { noted.remove(topic) };
        topics.iter().filter(|topic| change(topic)).cloned().collect()
    }

    /// Reconnects no more, lets calls and handlers in flight end, and says good-bye.
    pub(crate) async fn close(&self) {
        let way = self.current.send_replace(None);
        self.state.send_replace(State::Closed);
        if let Some(Way { outbox, .. }) = way {
            let until = Instant::now() + GRACE;
            outbox.push_always(Mail::Finish { until, streams: false });
            while !outbox.is_closed() && Instant::now() < until + limits::LINGER {
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Whether names can be said at all: one that is too long would cost the connection, and each later one.
pub(crate) fn check_names(names: &[String]) -> Result<(), CallError> {
    match names.iter().find(|name| name.len() > limits::NAME_MAX) {
        None => Ok(()),
        Some(long) => {
            let text = format!("a name of {} bytes is over the limit of {}", long.len(), limits::NAME_MAX);
            Err(CallError::coded(Code::TOO_LARGE, Execution::NotStarted, text))
        }
    }
}

/// Whether an error is one of a connection on its way out, not of what was asked for.
fn is_passing(error: &CallError) -> bool {
    error.kind() == Kind::Disconnected || error.code() == Code::DRAINING
}
