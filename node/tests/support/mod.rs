//! Clusters of real processes for tests.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails; each test uses its part"
)]

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use limes_node::dev::{Cluster, Options, Ports};
use limes_sdk::{Bytes, Edge, Service};
use tempfile::TempDir;
use tokio::time::sleep;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster in a folder of its own.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    dir: TempDir,
}

impl Bed {
    pub(crate) async fn start(nodes: usize) -> Bed {
        Bed::start_with(nodes, "").await
    }

    /// As [`Bed::start`], with another line in the `cluster` section of each node's settings.
    pub(crate) async fn start_with(nodes: usize, line: &str) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let options = || Options {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_limes")),
            nodes: Some(nodes),
            dir: dir.path().join("cluster"),
            ports: Ports::Auto,
        };
        let mut cluster = Cluster::start(options()).await.unwrap();
        if !line.is_empty() {
            cluster.shutdown().await;
            for node in cluster.nodes() {
                let file = node.folder().join("limes.yaml");
                let text = std::fs::read_to_string(&file).unwrap();
                let text = text.replacen("\ncluster:\n", &format!("\ncluster:\n  {line}\n"), 1);
                std::fs::write(&file, text).unwrap();
            }
            cluster = Cluster::start(options()).await.unwrap();
        }
        cluster.wait_ready(PATIENCE).await.unwrap();
        Bed { cluster, dir }
    }

    pub(crate) fn edges(&self, node: usize) -> String {
        self.cluster.node(node).addresses().edges.to_string()
    }

    pub(crate) fn services(&self, node: usize) -> String {
        self.cluster.node(node).addresses().services.to_string()
    }

    pub(crate) async fn edge(&self, node: usize) -> Edge {
        let edge = Edge::builder().address(self.edges(node)).meta("test").connect().await.unwrap();
        edge.register("echo", |call| async move { Ok(call.body) });
        edge
    }

    /// A service that answers "echo", and "who" with its own name.
    pub(crate) async fn service(&self, node: usize, name: &'static str) -> Service {
        let service = Service::builder(name).address(self.services(node)).connect().await.unwrap();
        service.register("echo", |call| async move { Ok(call.body) }).await.unwrap();
        service
            .register("who", move |_| async move { Ok(Bytes::from_static(name.as_bytes())) })
            .await
            .unwrap();
        service
    }

    /// The leader, and the two others.
    pub(crate) async fn roles(&self) -> (usize, usize, usize) {
        let leader = until("a leader", || async { self.cluster.leader().await }).await;
        let mut others = (1..=3).filter(|node| *node != leader);
        (leader, others.next().unwrap(), others.next().unwrap())
    }

    /// All that a node has logged.
    pub(crate) fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.cluster.node(node).log()).unwrap_or_default()
    }

    /// A figure of a node's `/status`.
    pub(crate) async fn figure(&self, node: usize, name: &str) -> Option<u64> {
        self.cluster.node(node).status().await?.more.get(name)?.as_u64()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in self.cluster.nodes() {
                let log = std::fs::read_to_string(node.log()).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(25).collect();
                eprintln!("--- {} ---", node.name());
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// Waits until something is there, and gives it.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the service can call the edge; gives how long that took.
pub(crate) async fn callable(service: &Service, edge: u64) -> Duration {
    let began = Instant::now();
    until("the edge can be called", || async {
        service.call_within(edge, "echo", "hi", Duration::from_secs(2)).await.ok()
    })
    .await;
    began.elapsed()
}
