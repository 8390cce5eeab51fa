//! Keeping a client connected.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{Mailbox, drive};
use limes_wire::frame::{Role, Welcome};
use limes_wire::limits::{self, Limits};
use limes_wire::transport::{AnyTransport, tune};
use limes_wire::{CloseReason, Code, Conn};
use rand::Rng;
use scopeguard::ScopeGuard;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, error, info, warn};

use crate::addresses::Addresses;
use crate::backoff::Backoff;
use crate::client::{Client, GRACE, Handle, State};
use crate::command::{LinkCommand, LinkHandle, NameChange};
use crate::connection::Connection;
use crate::error::{CallError, ConnectError};
use crate::goaway::Reaction;
use crate::link::{Link, LinkEvent};
use crate::options::Options;

/// Time limit of one address, from the dial to the welcome and the restored names.
const ATTEMPT: Duration = Duration::from_secs(6);
/// Time limit of the dial itself.
const DIAL: Duration = Duration::from_secs(2);
/// How long what is in flight on a connection that was left may take to finish.
const FINISH: Duration = Duration::from_secs(30);
/// Longest pause between attempts of the first connect.
const FIRST_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long after failed attempts a "replaced" may come from one of them.
const DOUBT: Duration = Duration::from_secs(60);

/// An open connection.
struct OpenConnection {
    /// The address that was dialled.
    address: String,
    link: LinkHandle,
    events: UnboundedReceiver<LinkEvent>,
    /// Addresses of the other nodes.
    peers: Vec<String>,
    /// Until when a "replaced" may be the work of an attempt that this client gave up: the cluster may commit its
    /// admission late.
    doubt: Option<Instant>,
}

/// Why an attempt to connect failed.
enum AttemptError {
    /// Another address, or another time, may do.
    Retry {
        /// The address and the reason.
        text: String,
        /// Addresses that a go-away named.
        peers: Vec<String>,
    },
    /// The cluster refuses this client for good.
    Refused { code: Code, text: String },
}

/// Connects for the first time, within the client's time limit, and from then on keeps the client connected.
pub(crate) async fn connect(options: Options) -> Result<Arc<Handle>, ConnectError> {
    let handle = Arc::new(Handle(Arc::new(Client::new(options)?)));
    let (connection, addresses) = connect_first(&handle.0).await?;
    tokio::spawn(keep_or_close(Arc::downgrade(&handle.0), connection, addresses));
    Ok(handle)
}

async fn connect_first(client: &Arc<Client>) -> Result<(OpenConnection, Addresses), ConnectError> {
    let options = &client.options;
    let until = Instant::now() + options.connect_timeout;
    let mut addresses = Addresses::new(options.addresses.clone(), rand::rng().random_range(0..usize::MAX));
    let mut backoff = Backoff::new(options.backoff_max.min(FIRST_PAUSE_MAX));
    let mut untried = u32::try_from(options.addresses.len()).unwrap_or(u32::MAX);
    let mut last_error = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // An address that does not answer leaves the others their share of the time.
        let time = ATTEMPT.min(left / untried.max(1));
        untried = untried.saturating_sub(1);
        match attempt(client, &addresses.next(), false, time).await {
            Ok(mut connection) => {
                addresses.learn(std::mem::take(&mut connection.peers));
                connection.doubt = last_error.is_some().then(|| Instant::now() + DOUBT);
                return Ok((connection, addresses));
            }
            Err(AttemptError::Refused { code, text }) => return Err(ConnectError::Refused { code, text }),
            Err(AttemptError::Retry { text, peers }) => {
                addresses.learn(peers);
                if Instant::now() >= until {
                    // This attempt was cut short by the time limit; the reason of the one before says more.
                    return Err(ConnectError::Unreachable(last_error.unwrap_or(text)));
                }
                last_error = Some(text);
            }
        }
        sleep(draw(&mut backoff).min(until.saturating_duration_since(Instant::now()))).await;
    }
}

/// The next pause of the back-off.
fn draw(backoff: &mut Backoff) -> Duration {
    backoff.next(rand::rng().random())
}

/// One attempt at one address within `time`; when it returns, the client uses the new connection.
///
/// # Cancel safety
/// Dropping the future closes the connection.
async fn attempt(
    client: &Arc<Client>,
    address: &str,
    moving: bool,
    time: Duration,
) -> Result<OpenConnection, AttemptError> {
    match timeout(time, try_address(client, address, moving)).await {
        Ok(result) => result,
        Err(_) => Err(retry(address, "no welcome in time")),
    }
}

fn retry(address: &str, reason: impl fmt::Display) -> AttemptError {
    AttemptError::Retry { text: format!("{address}: {reason}"), peers: Vec::new() }
}

async fn try_address(
    client: &Arc<Client>,
    address: &str,
    moving: bool,
) -> Result<OpenConnection, AttemptError> {
    let socket = timeout(DIAL, TcpStream::connect(address)).await;
    let socket = socket.map_err(|_| retry(address, "no connection in time"))?;
    let socket = socket.map_err(|error| retry(address, error))?;
    tune(&socket).map_err(|error| retry(address, error))?;
    let transport = match &client.tls {
        None => AnyTransport::from(socket),
        Some(tls) => tls.connect(address, socket).await.map_err(|error| retry(address, error))?.into(),
    };
    let link = Mailbox::new();
    let (sender, mut events) = unbounded_channel();
    let ended = CancellationToken::new();
    let ticket = client.ticket.lock().clone();
    let limits = Limits { keepalive: client.options.keepalive, ..Limits::default() };
    let conn = Conn::client(client.options.hello(ticket, moving), Instant::now(), limits);
    let handler = Link::new(client.clone(), link.clone(), sender, ended.clone().drop_guard());
    let span = debug_span!("limes.connection", role = ?client.options.role, address);
    tokio::spawn(drive(transport, conn, handler, link.clone()).instrument(span));
    let close = scopeguard::guard(link.clone(), |link| {
        link.push_always(LinkCommand::Close);
    });
    let welcome = match events.recv().await {
        Some(LinkEvent::Opened(welcome)) => *welcome,
        Some(LinkEvent::GoAway(goaway)) => {
            let text = format!("{address}: {}: {}", goaway.code, goaway.text);
            return Err(match Reaction::before_welcome(goaway.code) {
                Reaction::StayAway => AttemptError::Refused { code: goaway.code, text: goaway.text },
                _ => AttemptError::Retry { text, peers: goaway.peers },
            });
        }
        Some(LinkEvent::Closed(reason)) => return Err(retry(address, reason)),
        None => return Err(retry(address, "the connection ended")),
    };
    restore_names(client, &link).await.map_err(|error| retry(address, error))?;
    adopt(client, &welcome, Connection::new(link.clone(), ended, &welcome));
    ScopeGuard::into_inner(close);
    Ok(OpenConnection { address: address.to_owned(), link, events, peers: welcome.peers, doubt: None })
}

/// Brings the methods and topics of a service to a new connection.
async fn restore_names(client: &Client, link: &LinkHandle) -> Result<(), CallError> {
    if client.options.role != Role::Service {
        return Ok(());
    }
    let topics: Vec<String> = client.topics.lock().iter().cloned().collect();
    offer(client, link, NameChange::Register, &client.methods.names()).await?;
    offer(client, link, NameChange::Subscribe, &topics).await
}

/// Offers as many of these names as the gateway's limit allows: a client that insisted on all of them would have no
/// connection for as long as the limit stands.
async fn offer(
    client: &Client,
    link: &LinkHandle,
    change: NameChange,
    names: &[String],
) -> Result<(), CallError> {
    let (mut offered, mut size) = (0, limits::NAMES_MAX);
    while offered < names.len() {
        let chunk = &names[offered..names.len().min(offered + size)];
        match client.change_names_on(link, change, chunk, ATTEMPT).await {
            Ok(()) => offered += chunk.len(),
            Err(error) if error.code() != Code::LIMIT => return Err(error),
            Err(_) if chunk.len() > 1 => size = chunk.len() / 2,
            Err(error) => {
                let (text, of) = (error.text(), names.len());
                warn!(text, offered, of, ?change, "the cluster takes no more names of this service");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Makes a new connection the one in use.
fn adopt(client: &Client, welcome: &Welcome, connection: Connection) {
    client.id.store(welcome.id, Ordering::Release);
    if !welcome.ticket.is_empty() {
        *client.ticket.lock() = Bytes::copy_from_slice(&welcome.ticket);
    }
    client.current.send_replace(Some(connection));
    client.set_state(State::Connected(welcome.node.clone()));
}

/// Runs [`keep`]. Without this task the client would never connect again: if it panics, the client closes.
async fn keep_or_close(client: Weak<Client>, connection: OpenConnection, addresses: Addresses) {
    let _close = scopeguard::guard_on_unwind(client.clone(), |client| {
        if let Some(client) = client.upgrade() {
            error!("the task that keeps a client connected panicked; the client is closed");
            client.shut();
        }
    });
    keep(client, connection, addresses).await;
}

/// Keeps the client connected until it is closed or dropped.
async fn keep(client: Weak<Client>, mut open: OpenConnection, mut addresses: Addresses) {
    loop {
        // Holds no client while the connection is healthy, so that dropping the client ends everything.
        let event = next_event(&client, &mut open).await;
        let (moves, comes_back) = match event {
            LinkEvent::Opened(_) => continue,
            LinkEvent::GoAway(goaway) => {
                info!(code = %goaway.code, text = %goaway.text, "the node asks this client to leave");
                addresses.learn(goaway.peers);
                let moves = Reaction::after_welcome(goaway.code) == Reaction::MoveFirst;
                (moves, comes_back(goaway.code, &mut open))
            }
            LinkEvent::Closed(reason) => (false, comes_back(reason.code, &mut open)),
        };
        let Some(client) = client.upgrade().filter(|client| !client.is_closed()) else {
            let until = Instant::now() + GRACE;
            open.link.push_always(LinkCommand::Finish { until, streams: false });
            return;
        };
        if !comes_back {
            warn!("another connection replaced this client, or an operator closed it");
            client.shut();
            return;
        }
        if !moves {
            client.current.send_replace(None);
            client.set_state(State::Connecting);
            addresses.step_back();
        }
        addresses.set_leaving(moves.then(|| open.address.clone()));
        let Some(fresh) = reconnect(&client, &mut addresses, moves).await else { return };
        let old = std::mem::replace(&mut open, fresh);
        let until = Instant::now() + FINISH;
        old.link.push_always(LinkCommand::Finish { until, streams: true });
    }
}

/// Whether a client whose connection ended with this code reconnects.
fn comes_back(code: Code, open: &mut OpenConnection) -> bool {
    match Reaction::after_welcome(code) {
        Reaction::StayAway => false,
        // Once only: otherwise two devices with one id would replace each other for ever.
        Reaction::GiveWay => open.doubt.take().is_some_and(|until| Instant::now() < until),
        _ => true,
    }
}

/// The next event of the connection; its end, if the client is closed or dropped.
async fn next_event(client: &Weak<Client>, open: &mut OpenConnection) -> LinkEvent {
    let gone = || LinkEvent::Closed(CloseReason::transport("the connection's task ended"));
    let Some(closed) = client.upgrade().map(|client| client.closed.clone()) else { return gone() };
    tokio::select! {
        event = open.events.recv() => event.unwrap_or_else(gone),
        () = closed.cancelled() => gone(),
    }
}

/// Tries addresses in turn until one works; `None` if the client is closed meanwhile, or refused for good.
async fn reconnect(client: &Arc<Client>, addresses: &mut Addresses, moving: bool) -> Option<OpenConnection> {
    let mut backoff = Backoff::new(client.options.backoff_max);
    let mut has_failed = false;
    loop {
        let address = addresses.next();
        let attempt = attempt(client, &address, moving, ATTEMPT);
        match client.closed.run_until_cancelled(attempt).await? {
            Ok(mut open) => {
                addresses.learn(std::mem::take(&mut open.peers));
                open.doubt = has_failed.then(|| Instant::now() + DOUBT);
                info!(id = client.id.load(Ordering::Acquire), "reconnected");
                return Some(open);
            }
            Err(AttemptError::Refused { code, text }) => {
                warn!(%code, text, "refused for good");
                client.shut();
                return None;
            }
            Err(AttemptError::Retry { text, peers }) => {
                has_failed = true;
                debug!(text, "an attempt to reconnect failed");
                addresses.learn(peers);
            }
        }
        client.closed.run_until_cancelled(sleep(draw(&mut backoff))).await?;
    }
}
