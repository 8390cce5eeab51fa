//! Clusters of real processes for tests, and a native client that sends only what a test tells it to.

pub(crate) mod bare;
pub(crate) mod program;

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use limes_jepsen::net::Net;
use limes_node::config::{Addr, Election, NodeConfig};
use limes_node::dev::{Adjust, Cluster, Options, Ports};
use limes_sdk::{Bytes, Edge, Service};
use program::LogsOnFailure;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// How long anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// One cluster at a time: on a small machine several are too slow for each other's elections.
static CLUSTERS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));

/// Single nodes at the same time, which need no elections.
static ALONE: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(2)));

/// Waits for the turn of a cluster of so many nodes; it ends when the permit is dropped.
pub(crate) async fn turn(nodes: usize) -> OwnedSemaphorePermit {
    let turns = if nodes > 1 { &CLUSTERS } else { &ALONE };
    Arc::clone(turns).acquire_owned().await.unwrap()
}

/// Long timeouts: on a loaded machine a process or a disk may stall for a second, and these tests are not about
/// how fast a failure is detected.
pub(crate) fn patient(config: &mut NodeConfig) {
    config.cluster.heartbeat = Duration::from_millis(250);
    config.cluster.election = Election { min: Duration::from_millis(1_500), max: Duration::from_secs(3) };
    config.cluster.down_after = Some(Duration::from_secs(4));
}

/// Shorter timeouts, for tests with many elections: a node may still stall for a second before it is declared
/// down.
pub(crate) fn brisk(config: &mut NodeConfig) {
    config.cluster.heartbeat = Duration::from_millis(100);
    config.cluster.election = Election { min: Duration::from_millis(500), max: Duration::from_secs(1) };
    config.cluster.down_after = Some(Duration::from_secs(4));
}

/// A cluster in its own folder.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    /// The network between the nodes, if the test controls it.
    net: Option<Arc<Net>>,
    /// Dropped after the nodes have ended, before their folder is removed.
    _logs: LogsOnFailure,
    _dir: TempDir,
    _turn: OwnedSemaphorePermit,
}

impl Bed {
    pub(crate) async fn start(nodes: usize) -> Bed {
        Bed::start_with(nodes, patient).await
    }

    /// As [`Bed::start`], with other settings.
    pub(crate) async fn start_with(
        nodes: usize,
        adjust: impl Fn(&mut NodeConfig) + Send + Sync + 'static,
    ) -> Bed {
        Bed::start_behind(nodes, None, tempfile::tempdir().unwrap(), Arc::new(adjust)).await
    }

    /// As [`Bed::start_with`], with nodes that reach each other through [`Bed::net`].
    pub(crate) async fn start_netted(
        nodes: usize,
        adjust: impl Fn(&mut NodeConfig) + Send + Sync + 'static,
    ) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let net = Arc::new(Net::start(&dir.path().join("cluster"), nodes).await.unwrap());
        let proxied = net.clone();
        let both = move |config: &mut NodeConfig| {
            adjust(config);
            for (proxy, member) in proxied.proxies().iter().zip(&mut config.cluster.initial) {
                if member.name == config.cluster.name {
                    proxy.set_target(config.cluster.listen.addr.to_string());
                }
                member.addr = Addr::new("127.0.0.1", proxy.address().port());
            }
        };
        Bed::start_behind(nodes, Some(net), dir, Arc::new(both)).await
    }

    async fn start_behind(nodes: usize, net: Option<Arc<Net>>, dir: TempDir, adjust: Adjust) -> Bed {
        let turn = turn(nodes).await;
        let folder = dir.path().join("cluster");
        let logs = LogsOnFailure(folder.clone());
        let options = Options {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_limes")),
            nodes: Some(nodes),
            dir: folder,
            ports: Ports::Auto,
            adjust,
        };
        let cluster = Cluster::start(options).await.unwrap();
        cluster.wait_ready(PATIENCE).await.unwrap();
        Bed { cluster, net, _logs: logs, _dir: dir, _turn: turn }
    }

    /// The network between the nodes.
    pub(crate) fn net(&self) -> &Net {
        self.net.as_ref().expect("started with one")
    }

    pub(crate) fn edges(&self, node: usize) -> String {
        self.cluster.node(node).addresses().edges.to_string()
    }

    pub(crate) fn services(&self, node: usize) -> String {
        self.cluster.node(node).addresses().services.to_string()
    }

    pub(crate) async fn edge(&self, node: usize) -> Edge {
        let edge = Edge::builder().address(self.edges(node)).meta("test").connect_timeout(PATIENCE);
        let edge = edge.connect().await.unwrap();
        edge.register("echo", |call| async move { Ok(call.body) });
        edge
    }

    /// A service that answers "echo", and "who" with its own name.
    pub(crate) async fn service(&self, node: usize, name: &'static str) -> Service {
        let service = Service::builder(name).address(self.services(node)).connect_timeout(PATIENCE);
        let service = service.connect().await.unwrap();
        service.register("echo", |call| async move { Ok(call.body) }).await.unwrap();
        service
            .register("who", move |_| async move { Ok(Bytes::from_static(name.as_bytes())) })
            .await
            .unwrap();
        service
    }

    /// A service with an edge-offline callback, and the ids that the callback gets.
    pub(crate) async fn offline_watcher(&self, node: usize) -> (Service, UnboundedReceiver<u64>) {
        let service = self.service(node, "offline-watcher").await;
        let (offline, gone) = unbounded_channel();
        let registered = service.on_edge_offline(move |edge| {
            let _ = offline.send(edge.edge);
            async { Ok(()) }
        });
        registered.await.unwrap();
        (service, gone)
    }

    /// The leader and the two followers.
    pub(crate) async fn roles(&self) -> (usize, usize, usize) {
        let leader = until("a leader", || async { self.cluster.leader().await }).await;
        let mut others = (1..=3).filter(|node| *node != leader);
        (leader, others.next().unwrap(), others.next().unwrap())
    }

    /// The whole log of a node.
    pub(crate) fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.cluster.node(node).log()).unwrap_or_default()
    }

    /// A figure of a node's `/status`.
    pub(crate) async fn figure(&self, node: usize, name: &str) -> Option<u64> {
        self.cluster.node(node).status().await?.more.get(name)?.as_u64()
    }

    /// A node's `/metrics`, with the head of the HTTP response.
    pub(crate) async fn scrape(&self, node: usize) -> String {
        let mut socket = TcpStream::connect(&*self.cluster.node(node).addresses().metrics).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        timeout(PATIENCE, socket.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }

    /// A figure of a node's `/metrics`; 0 if it is not there.
    pub(crate) async fn metric(&self, node: usize, series: &str) -> u64 {
        let text = self.scrape(node).await;
        let line =
            text.lines().find(|line| line.starts_with(series) && line[series.len()..].starts_with(' '));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Waits until all of these nodes show one value of a figure.
    pub(crate) async fn all_show(&self, nodes: &[usize], name: &str, value: u64) {
        until(&format!("{name} is {value} on {nodes:?}"), || async {
            for node in nodes {
                if self.figure(*node, name).await != Some(value) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // Each node of a debug build checks for orphaned rows (R11) and logs them.
        let orphaned =
            (1..=self.cluster.nodes().len()).map(|node| self.log(node)).filter(|log| log.contains("R11"));
        assert_eq!(orphaned.count(), 0, "a node logged a row without a session");
    }
}

/// Polls until there is a value, at most [`PATIENCE`], and returns it.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, poll: impl Fn() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the service can call the edge.
pub(crate) async fn callable(service: &Service, edge: u64) {
    until("the edge can be called", || async {
        service.call_within(edge, "echo", "hi", Duration::from_secs(5)).await.ok()
    })
    .await;
}

/// A figure of a process's memory, in KiB, by its name in `/proc/PID/status`.
pub(crate) fn memory_kb(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
