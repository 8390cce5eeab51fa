//! Keeping a client connected.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{Mailbox, drive};
use limes_wire::frame::{Role, Welcome};
use limes_wire::limits::{self, Limits};
use limes_wire::transport::{AnyTransport, tune};
use limes_wire::{Code, Conn};
use rand::Rng;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, debug_span, info, warn};

use crate::client::{Client, GRACE, State, Way};
use crate::error::ConnectError;
use crate::link::{Link, Mail, Naming, News, Outbox};
use crate::pace::{Addresses, Asked, Backoff};

/// How long one address may take, from the dial to the welcome and the restored names.
const ATTEMPT: Duration = Duration::from_secs(6);
/// How long the dial itself may take.
const DIAL: Duration = Duration::from_secs(2);
/// How long what is in flight on a connection that was left may take to finish.
const FINISH: Duration = Duration::from_secs(30);
/// The longest pause between attempts of the first connect.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long after attempts that failed a "replaced" is not believed.
const DOUBT: Duration = Duration::from_secs(60);

/// A connection that is open.
struct Open {
    /// The address that was dialled.
    address: String,
    outbox: Outbox,
    news: UnboundedReceiver<News>,
    /// Where the other nodes are.
    peers: Vec<String>,
    /// Until when a "replaced" may be the work of an attempt of this client that it gave up: a
    /// proposal may be committed late.
    doubt: Option<Instant>,
}

/// Why an attempt failed.
enum Miss {
    /// Another address or another time may do.
    Later(String, Vec<String>),
    /// No attempt will do.
    Never(Code, String),
}

/// Connects for the first time, within the client's time, and starts the keeper.
pub(crate) async fn start(client: &Arc<Client>) -> Result<(), ConnectError> {
    let until = Instant::now() + client.options.connect_timeout;
    let mut known = Addresses::new(client.options.addresses.clone(), rand::rng().random_range(0..usize::MAX));
    let mut backoff = Backoff::new(client.options.backoff_max.min(FIRST_PAUSE));
    let mut untried = u32::try_from(client.options.addresses.len()).unwrap_or(u32::MAX);
    let mut why = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // One that says nothing leaves the others their share of the time.
        let time = ATTEMPT.min(left / untried.max(1));
        untried = untried.saturating_sub(1);
        match attempt(client, &known.next(), false, time).await {
            Ok(mut open) => {
                known.learn(std::mem::take(&mut open.peers));
                open.doubt = why.is_some().then(|| Instant::now() + DOUBT);
                tokio::spawn(keep(Arc::downgrade(client), open, known));
                return Ok(());
            }
            Err(Miss::Never(code, text)) => return Err(ConnectError::Refused { code, text }),
            Err(Miss::Later(text, peers)) => {
                known.learn(peers);
                if Instant::now() >= until {
                    // Why the one before failed says more than that the time was up in the midst of this one.
                    return Err(ConnectError::Unreachable(why.unwrap_or(text)));
                }
                why = Some(text);
            }
        }
        pause(&mut backoff, until.saturating_duration_since(Instant::now())).await;
    }
}

/// A pause of the plan, or until the time is up.
async fn pause(backoff: &mut Backoff, left: Duration) {
    let drawn = backoff.next(rand::rng().random());
    sleep(drawn.min(left)).await;
}

/// One attempt at one address, within this time; when it returns the client uses the new connection.
async fn attempt(client: &Arc<Client>, address: &str, moving: bool, time: Duration) -> Result<Open, Miss> {
    let later = |text: String| Miss::Later(format!("{address}: {text}"), Vec::new());
    match timeout(time, try_address(client, address, moving)).await {
        Ok(result) => result,
        Err(_) => Err(later("no welcome in time".to_owned())),
    }
}

async fn try_address(client: &Arc<Client>, address: &str, moving: bool) -> Result<Open, Miss> {
    let later = |text: String| Miss::Later(format!("{address}: {text}"), Vec::new());
    let socket = timeout(DIAL, TcpStream::connect(address)).await;
    let socket = socket.map_err(|_| later("no connection in time".to_owned()))?;
    let socket = socket.map_err(|error| later(error.to_string()))?;
    tune(&socket).map_err(|error| later(error.to_string()))?;
    let transport = match &client.tls {
        None => AnyTransport::from(socket),
        Some(tls) => tls.connect(address, socket).await.map_err(|error| later(error.to_string()))?.into(),
    };
    let outbox = Mailbox::new();
    let (sender, mut news) = unbounded_channel();
    let ticket = client.ticket.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let limits = Limits { keepalive: client.options.keepalive, ..Limits::default() };
    let conn = Conn::client(client.options.hello(ticket, moving), Instant::now(), limits);
    let link = Link::new(client.clone(), outbox.clone(), sender);
    let span = debug_span!("limes.connection", role = ?client.options.role, address);
    tokio::spawn(drive(transport, conn, link, outbox.clone()).instrument(span));
    let guard = CloseOnDrop(Some(outbox.clone()));
    let welcome = match news.recv().await {
        Some(News::Open(welcome)) => *welcome,
        Some(News::Leave(goaway)) => {
            let text = format!("{}: {}", goaway.code, goaway.text);
            return Err(match Asked::before_welcome(goaway.code) {
                Asked::StayAway => Miss::Never(goaway.code, goaway.text),
                _ => Miss::Later(format!("{address}: {text}"), goaway.peers),
            });
        }
        Some(News::Closed(reason)) => return Err(later(reason.to_string())),
        None => return Err(later("the connection ended".to_owned())),
    };
    restore(client, &outbox).await.map_err(|error| later(error.to_string()))?;
    adopt(client, &welcome, &outbox);
    guard.keep();
    Ok(Open { address: address.to_owned(), outbox, news, peers: welcome.peers, doubt: None })
}

/// Brings methods and topics to a new connection.
async fn restore(client: &Client, outbox: &Outbox) -> Result<(), crate::CallError> {
    if client.options.role != Role::Service {
        return Ok(());
    }
    let topics: Vec<String> =
        client.topics.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
    offer(client, outbox, Naming::Register, &client.methods.names()).await?;
    offer(client, outbox, Naming::Subscribe, &topics).await
}

/// Offers as many of these names as the gateway takes: a client that insisted on all of them would have no
/// connection for as long as the limit stands.
async fn offer(
    client: &Client,
    outbox: &Outbox,
    naming: Naming,
    names: &[String],
) -> Result<(), crate::CallError> {
    let (mut at, mut most) = (0, limits::NAMES_MAX);
    while at < names.len() {
        let some = &names[at..names.len().min(at + most)];
        match client.names(outbox, naming, some.to_vec(), ATTEMPT).await {
            Ok(()) => at += some.len(),
            Err(error) if error.code() != Code::LIMIT => return Err(error),
            Err(_) if some.len() > 1 => most = some.len() / 2,
            Err(error) => {
                warn!(
                    text = error.text(),
                    offered = at,
                    of = names.len(),
                    ?naming,
                    "the cluster takes no more"
                );
                return Ok(());
            }
        }
    }
    Ok(())
}

fn adopt(client: &Client, welcome: &Welcome, outbox: &Outbox) {
    client.id.store(welcome.id, Ordering::Release);
    if !welcome.ticket.is_empty() {
        let ticket = Bytes::copy_from_slice(&welcome.ticket);
        *client.ticket.lock().unwrap_or_else(PoisonError::into_inner) = ticket;
    }
    client.current.send_replace(Some(Way::new(outbox.clone(), welcome)));
    client.state.send_if_modified(|state| {
        let open = *state != State::Closed;
        if open {
            *state = State::Connected(welcome.node.clone());
        }
        open
    });
}

/// Closes a connection whose attempt is given up.
struct CloseOnDrop(Option<Outbox>);

impl CloseOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(outbox) = self.0.take() {
            outbox.push_always(Mail::Close);
        }
    }
}

/// Keeps the client connected until it is closed or dropped.
async fn keep(client: Weak<Client>, mut open: Open, mut known: Addresses) {
    loop {
        // Nothing is held of the client while the connection is well: dropping it ends all.
        let (leave, again) = match wait(&client, &mut open).await {
            News::Open(_) => (false, true),
            News::Leave(goaway) => {
                info!(code = %goaway.code, text = %goaway.text, "the node asks to go elsewhere");
                known.learn(goaway.peers);
                let leave = Asked::after_welcome(goaway.code) == Asked::MoveFirst;
                (leave, comes_again(goaway.code, &mut open))
            }
            News::Closed(reason) => (false, comes_again(reason.code, &mut open)),
        };
        let Some(client) = client.upgrade().filter(|client| *client.state.borrow() != State::Closed) else {
            let until = Instant::now() + GRACE;
            open.outbox.push_always(Mail::Finish { until, streams: false });
            return;
        };
        if !again {
            warn!("another connection has this client's place, or an operator closed it");
            client.state.send_replace(State::Closed);
            client.current.send_replace(None);
            return;
        }
        if !leave {
            client.current.send_replace(None);
            client.state.send_if_modified(|state| {
                let was_open = *state != State::Closed;
                if was_open {
                    *state = State::Connecting;
                }
                was_open
            });
            known.stay();
        }
        known.leave(leave.then(|| open.address.clone()));
        match reconnect(&client, &mut known, leave).await {
            Some(fresh) => {
                let old = std::mem::replace(&mut open, fresh);
                let until = Instant::now() + FINISH;
                old.outbox.push_always(Mail::Finish { until, streams: true });
            }
            None => return,
        }
    }
}

/// Whether a client whose connection ended so looks for another.
fn comes_again(code: Code, open: &mut Open) -> bool {
    match Asked::after_welcome(code) {
        Asked::StayAway => false,
        // Once: two devices with one id must not chase each other away for ever.
        Asked::MakeRoom => open.doubt.take().is_some_and(|until| Instant::now() < until),
        _ => true,
    }
}

async fn wait(client: &Weak<Client>, open: &mut Open) -> News {
    let gone = || News::Closed(limes_wire::CloseReason::transport("the connection's task ended"));
    let Some(mut state) = client.upgrade().map(|client| client.state.subscribe()) else { return gone() };
    tokio::select! {
        news = open.news.recv() => news.unwrap_or_else(gone),
        _ = state.wait_for(|state| *state == State::Closed) => gone(),
    }
}

/// Tries until it works; `None`: the client was closed, or refused for good.
async fn reconnect(client: &Arc<Client>, known: &mut Addresses, moving: bool) -> Option<Open> {
    let mut backoff = Backoff::new(client.options.backoff_max);
    let mut missed = false;
    loop {
        if *client.state.borrow() == State::Closed {
            return None;
        }
        match attempt(client, &known.next(), moving, ATTEMPT).await {
            Ok(mut open) => {
                known.learn(std::mem::take(&mut open.peers));
                open.doubt = missed.then(|| Instant::now() + DOUBT);
                info!(id = client.id.load(Ordering::Acquire), "connected again");
                return Some(open);
            }
            Err(Miss::Never(code, text)) => {
                warn!(%code, text, "refused for good");
                client.state.send_replace(State::Closed);
                client.current.send_replace(None);
                return None;
            }
            Err(Miss::Later(text, peers)) => {
                missed = true;
                tracing::debug!(text, "not connected yet");
                known.learn(peers);
            }
        }
        pause(&mut backoff, Duration::MAX).await;
    }
}
