//! A TCP proxy for network faults: it can stop passing bytes without closing anything, like a path that drops
//! packets, and it can close connections.
//!
//! A [`Rule`] decides about each connection whenever bytes arrive and whenever the rule changes; so one proxy in
//! front of one address can treat its clients differently.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Error;
use crate::process::socket_owner;

/// Size of one read, in bytes.
const BUFFER: usize = 16 << 10;

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Bytes pass.
    Pass,
    /// Neither bytes nor an end get through. Bytes that arrive meanwhile pass after it thaws.
    Freeze,
    /// Both ends are closed.
    Close,
}

/// One connection through a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Through {
    /// The client's address.
    pub from: SocketAddr,
    /// The number of the process in the proxy's [`Clients`] that connected, if it is one of them (Linux only).
    pub client: Option<usize>,
    /// The first byte that the client sent.
    pub first: Option<u8>,
}

/// Decides about each connection.
pub type Rule = Arc<dyn Fn(&Through) -> Fate + Send + Sync>;

/// Gives the processes that may be clients, each with a number and its pid.
pub type Clients = Arc<dyn Fn() -> Vec<(usize, u32)> + Send + Sync>;

/// A proxy on loopback. Dropping it closes its listener and all connections through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: Arc<Mutex<String>>,
    rule: watch::Sender<RuleCell>,
    _acceptor: AbortOnDropHandle<()>,
}

/// A rule that implements [`fmt::Debug`].
#[derive(Clone)]
struct RuleCell(Rule);

impl fmt::Debug for RuleCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rule")
    }
}

impl Proxy {
    /// A proxy on a free loopback port to `target`, through which everything passes.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(target: impl Into<String>) -> Result<Proxy, Error> {
        Proxy::start_with(target, Arc::new(Vec::new)).await
    }

    /// As [`Proxy::start`]; rules learn which of these processes has connected.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start_with(target: impl Into<String>, clients: Clients) -> Result<Proxy, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let target = Arc::new(Mutex::new(target.into()));
        let rule = watch::Sender::new(RuleCell(Arc::new(|_: &Through| Fate::Pass)));
        let acceptor = accept(listener, target.clone(), rule.subscribe(), clients);
        let acceptor = AbortOnDropHandle::new(tokio::spawn(acceptor));
        Ok(Proxy { address, target, rule, _acceptor: acceptor })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends later connections to another address.
    pub fn set_target(&self, target: impl Into<String>) {
        *self.target.lock() = target.into();
    }

    /// Decides about all connections, open ones included.
    pub fn rule(&self, rule: impl Fn(&Through) -> Fate + Send + Sync + 'static) {
        self.rule.send_replace(RuleCell(Arc::new(rule)));
    }

    /// One fate for all connections.
    pub fn all(&self, fate: Fate) {
        self.rule(move |_| fate);
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<Mutex<String>>,
    rule: watch::Receiver<RuleCell>,
    clients: Clients,
) {
    // Ends with this task, and with it all connections.
    let mut open = JoinSet::new();
    while let Ok((near, from)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        let to = target.lock().clone();
        open.spawn(serve(near, from, to, rule.clone(), clients.clone()));
    }
}

async fn serve(
    near: TcpStream,
    from: SocketAddr,
    to: String,
    rule: watch::Receiver<RuleCell>,
    clients: Clients,
) {
    let find = move || socket_owner(from.port(), &clients());
    let client = tokio::task::spawn_blocking(find).await.unwrap_or_default();
    let through = Arc::new(Mutex::new(Through { from, client, first: None }));
    let Ok(far) = TcpStream::connect(&to).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = async {
            tokio::join!(
                carry(near_read, far_write, rule.clone(), &through, true),
                carry(far_read, near_write, rule.clone(), &through, false),
            );
        } => {}
        () = until_closed(rule.clone(), &through) => {}
    }
}

fn decide(rule: &watch::Receiver<RuleCell>, through: &Mutex<Through>) -> Fate {
    let through = *through.lock();
    let rule = rule.borrow().0.clone();
    rule(&through)
}

/// Returns when the rule closes the connection.
async fn until_closed(mut rule: watch::Receiver<RuleCell>, through: &Mutex<Through>) {
    while decide(&rule, through) != Fate::Close {
        if rule.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Carries one direction to its end.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rule: watch::Receiver<RuleCell>,
    through: &Mutex<Through>,
    is_client: bool,
) {
    let mut buffer = vec![0; BUFFER];
    let mut is_first = is_client;
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if is_first && read > 0 {
            through.lock().first = Some(buffer[0]);
            is_first = false;
        }
        while decide(&rule, through) != Fate::Pass {
            if rule.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A server that echoes.
    async fn echo_server() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.into_split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.unwrap()
    }

    async fn echo(socket: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        socket.write_all(text).await.unwrap();
        let mut answer = vec![0; text.len()];
        socket.read_exact(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn bytes_wait_while_their_connection_is_frozen() {
        let proxy = Proxy::start(echo_server().await.to_string()).await.unwrap();
        let (mut one, mut other) = (connect(&proxy).await, connect(&proxy).await);
        assert_eq!(echo(&mut one, b"hello").await, b"hello");
        let port = one.local_addr().unwrap().port();
        proxy.rule(move |through| match through.from.port() == port {
            true => Fate::Freeze,
            false => Fate::Pass,
        });
        assert!(timeout(Duration::from_millis(200), echo(&mut one, b"late")).await.is_err());
        assert_eq!(echo(&mut other, b"mine").await, b"mine");
        proxy.all(Fate::Pass);
        let mut late = [0; 4];
        one.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"late");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_rule_learns_which_process_has_connected() {
        let me = std::process::id();
        let clients: Clients = Arc::new(move || vec![(1, 1), (2, me)]);
        let proxy = Proxy::start_with(echo_server().await.to_string(), clients).await.unwrap();
        let mut mine = connect(&proxy).await;
        assert_eq!(echo(&mut mine, b"hello").await, b"hello");
        proxy.rule(|through| if through.client == Some(2) { Fate::Freeze } else { Fate::Pass });
        assert!(timeout(Duration::from_millis(200), echo(&mut mine, b"late")).await.is_err());
    }

    #[tokio::test]
    async fn closing_ends_the_connection() {
        let proxy = Proxy::start(echo_server().await.to_string()).await.unwrap();
        let mut socket = connect(&proxy).await;
        assert_eq!(echo(&mut socket, b"hello").await, b"hello");
        proxy.all(Fate::Close);
        assert_eq!(socket.read(&mut [0; 4]).await.unwrap_or(0), 0);
    }
}
