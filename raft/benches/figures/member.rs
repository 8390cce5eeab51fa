//! Members to measure.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use limes_raft::{Config, Observer, PeerAddr, RaftMetrics, Replica, Timing};
use limes_routing::{Batch, EdgeId, Effect, Event, NodeAddrs, NodeId, Revision, SessionNo, Tables, Verdict};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// An observer that measures the longest time between two applied batches.
#[derive(Default)]
pub(crate) struct Gaps {
    last: AtomicU64,
    longest: AtomicU64,
}

impl Gaps {
    /// The longest time between two applied batches since the last call, in microseconds.
    pub(crate) fn take(&self) -> u64 {
        self.last.store(0, Ordering::Relaxed);
        self.longest.swap(0, Ordering::Relaxed)
    }
}

impl Observer for Gaps {
    fn identified(&self, _: NodeId, _: [u8; 16], _: [u8; 16]) {}

    fn applied(&self, _: Revision, _: &Batch, _: &[Verdict], _: &[Effect], _: &Tables) {
        let now = crate::member::micros();
        let before = self.last.swap(now, Ordering::Relaxed);
        if before > 0 {
            self.longest.fetch_max(now - before, Ordering::Relaxed);
        }
    }

    fn installed(&self, _: &[Effect], _: &Tables) {}
}

/// Microseconds since the first call, and at least one.
pub(crate) fn micros() -> u64 {
    static BEGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(std::time::Instant::now).elapsed().as_micros() as u64 + 1
}

/// Starts one member and waits until it is up.
pub(crate) async fn start(
    dir: &Path,
    at: usize,
    addrs: &[SocketAddr],
    listener: TcpListener,
    observer: Arc<dyn Observer>,
) -> Replica {
    let peer =
        |(i, addr): (usize, &SocketAddr)| PeerAddr { name: format!("node-{i}"), addr: addr.to_string() };
    let initial: Vec<PeerAddr> = (1..).zip(addrs).map(peer).collect();
    let (incoming, sockets) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            if incoming.send(socket).await.is_err() {
                break;
            }
        }
    });
    let config = Config {
        dir: dir.to_owned(),
        name: initial[at].name.clone(),
        addrs: NodeAddrs { mesh: addrs[at].to_string(), ..NodeAddrs::default() },
        initial,
        timing: Timing::default(),
        metrics: RaftMetrics::default(),
    };
    let replica = Replica::start(config, sockets, observer).await.unwrap();
    replica.wait_up(Duration::from_secs(60)).await.unwrap();
    replica
}

/// An edge that comes online with 32 bytes of meta and an address.
pub(crate) fn online(edge: u64) -> Event {
    Event::EdgeOnline {
        edge: EdgeId(1_000_000_000_000 + edge),
        session: SessionNo(edge + 1),
        meta: bytes::Bytes::from_static(b"thirty-two bytes of what it says"),
        addr: "192.0.2.200:54321".into(),
        moving: false,
        owes_offline: false,
    }
}
