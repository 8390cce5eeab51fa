//! A TCP proxy for faults of the network: it can stop passing bytes without closing anything, as a
//! path does that drops packets, and it can break connections.
//!
//! Each connection asks a [`Rule`] what is to become of it, whenever bytes arrive and whenever the rule
//! changes; so one proxy in front of one address can treat its clients differently.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Bytes that one direction of a connection reads at once.
const BUFFER: usize = 16 << 10;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Bytes pass.
    Pass,
    /// Neither bytes nor an end get through. Bytes that came meanwhile pass once it thaws.
    Freeze,
    /// Both ends are closed.
    Cut,
}

/// One connection through a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Through {
    /// Who connected.
    pub from: SocketAddr,
    /// Which of the proxy's [`Clients`] connected, if any did (Linux only).
    pub client: Option<usize>,
    /// The first byte that the client sent; 0 before it did.
    pub first: u8,
}

/// Decides about each connection.
pub type Rule = Arc<dyn Fn(&Through) -> Fate + Send + Sync>;

/// Gives the processes among which the one that connected is looked for, each under a number.
pub type Clients = Arc<dyn Fn() -> Vec<(usize, u32)> + Send + Sync>;

/// A proxy on loopback. Dropping it closes its listener and all connections through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    target: Arc<Mutex<String>>,
    rule: watch::Sender<Held>,
    task: AbortHandle,
}

/// A rule that can be printed.
#[derive(Clone)]
struct Held(Rule);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rule")
    }
}

impl Proxy {
    /// A proxy on a free loopback port, to `target`, through which all passes.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(target: impl Into<String>) -> io::Result<Proxy> {
        Proxy::start_with(target, Arc::new(Vec::new)).await
    }

    /// As [`Proxy::start`]; its rules are told which of some processes has connected.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start_with(target: impl Into<String>, clients: Clients) -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let target = Arc::new(Mutex::new(target.into()));
        let rule = watch::Sender::new(Held(Arc::new(|_: &Through| Fate::Pass)));
        let work = accept(listener, target.clone(), rule.subscribe(), clients);
        let task = tokio::spawn(work).abort_handle();
        Ok(Proxy { address, target, rule, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends connections that come from now on to another address.
    pub fn set_target(&self, target: impl Into<String>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target.into();
    }

    /// Decides about all connections, those that are open included.
    pub fn rule(&self, rule: impl Fn(&Through) -> Fate + Send + Sync + 'static) {
        self.rule.send_replace(Held(Arc::new(rule)));
    }

    /// One fate for all.
    pub fn all(&self, fate: Fate) {
        self.rule(move |_| fate);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<Mutex<String>>,
    rule: watch::Receiver<Held>,
    clients: Clients,
) {
    // Ends with this task, and with it all connections.
    let mut open = tokio::task::JoinSet::new();
    while let Ok((near, from)) = listener.accept().await {
        while open.try_join_next().is_some() {}
        let to = target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.spawn(serve(near, from, to, rule.clone(), clients.clone()));
    }
}

async fn serve(near: TcpStream, from: SocketAddr, to: String, rule: watch::Receiver<Held>, clients: Clients) {
    let find = move || owner(from.port(), &clients());
    let client = tokio::task::spawn_blocking(find).await.unwrap_or_default();
    let through = Arc::new(Mutex::new(Through { from, client, first: 0 }));
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
        () = cut(rule.clone(), &through) => {}
    }
}

fn look(rule: &watch::Receiver<Held>, through: &Mutex<Through>) -> Fate {
    let through = *through.lock().unwrap_or_else(PoisonError::into_inner);
    let rule = rule.borrow().0.clone();
    rule(&through)
}

/// Returns when the connection is to be broken.
async fn cut(mut rule: watch::Receiver<Held>, through: &Mutex<Through>) {
    while look(&rule, through) != Fate::Cut {
        if rule.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Carries one direction to its end.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rule: watch::Receiver<Held>,
    through: &Mutex<Through>,
    is_client: bool,
) {
    let mut buffer = vec![0; BUFFER];
    let mut is_first = is_client;
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if is_first && read > 0 {
            through.lock().unwrap_or_else(PoisonError::into_inner).first = buffer[0];
            is_first = false;
        }
        while look(&rule, through) != Fate::Pass {
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

/// Which of some processes holds the loopback socket with this local port: from `/proc`, so `None`
/// on systems that have none.
fn owner(port: u16, clients: &[(usize, u32)]) -> Option<usize> {
    if clients.is_empty() {
        return None;
    }
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let local = format!("0100007F:{port:04X}");
    let inodes: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(1) == Some(&local.as_str()))
        .filter_map(|columns| Some(format!("socket:[{}]", columns.get(9)?)))
        .collect();
    let holds = |pid: u32| {
        let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
    };
    clients.iter().find(|(_, pid)| holds(*pid)).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A server that echoes.
    async fn echo() -> SocketAddr {
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

    async fn say(socket: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        socket.write_all(text).await.unwrap();
        let mut heard = vec![0; text.len()];
        socket.read_exact(&mut heard).await.unwrap();
        heard
    }

    #[tokio::test]
    async fn bytes_wait_while_it_is_frozen_and_a_cut_ends_the_connection() {
        let me = std::process::id();
        let clients: Clients = Arc::new(move || vec![(1, 1), (2, me)]);
        let proxy = Proxy::start_with(echo().await.to_string(), clients).await.unwrap();
        let mut one = TcpStream::connect(proxy.address()).await.unwrap();
        let mut other = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(say(&mut one, b"hello").await, b"hello");
        let port = one.local_addr().unwrap().port();
        proxy.rule(move |through| match (through.from.port() == port, through.client == Some(2)) {
            (true, true) => Fate::Freeze,
            _ => Fate::Pass,
        });
        assert!(timeout(Duration::from_millis(200), say(&mut one, b"late")).await.is_err());
        assert_eq!(say(&mut other, b"mine").await, b"mine");
        proxy.all(Fate::Pass);
        let mut late = [0; 4];
        one.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"late");
        proxy.all(Fate::Cut);
        assert_eq!(one.read(&mut late).await.unwrap_or(0), 0);
    }
}
