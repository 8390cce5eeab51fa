//! Nodes that are stopped, killed and restarted, one after another, in one cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::bare::Bare;
use crate::support::{Bed, PATIENCE, brisk, callable, until};
use limes_api::v1::limes_client::LimesClient;
use limes_api::v1::{StatusReply, StatusRequest};
use limes_sdk::{CallError, Edge, Service};
use limes_wire::frame::Hello;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// The silence after which a node is declared down: longer than a process stalls on a loaded machine.
const DOWN_AFTER: Duration = Duration::from_secs(2);
/// Edges whose node dies.
const CROWD: usize = 2_000;
/// As many of them connect at once.
const AT_ONCE: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_stopped_killed_and_restarted() {
    let bed = Bed::start_with(3, |config| {
        brisk(config);
        config.cluster.down_after = Some(DOWN_AFTER);
        config.cluster.suspend_grace = Duration::from_millis(500);
    })
    .await;
    let before = until("a status", || status(&bed, 1)).await;
    a_leader_that_was_stopped_declares_no_node_down(&bed).await;
    let (leader, a, b) = bed.roles().await;
    killed_under_load(&bed, leader, async || {
        until("another leader", || async { bed.cluster.leader().await.filter(|l| *l != leader) }).await;
    })
    .await;
    killed_under_load(&bed, a, async || {}).await;
    edges_of_a_killed_node(&bed, b).await;
    let after = until("a status", || status(&bed, 3)).await;
    let members = |status: &StatusReply| {
        status.nodes.iter().map(|node| (node.name.clone(), node.number, node.voter)).collect::<Vec<_>>()
    };
    assert_eq!((&after.cluster, members(&after)), (&before.cluster, members(&before)));
    assert!(after.nodes.iter().all(|node| node.up), "{after:?}");
    all_nodes_killed_at_once_restart_without_orphaned_rows(&bed).await;
}

async fn status(bed: &Bed, node: usize) -> Option<StatusReply> {
    let addr = bed.cluster.node(node).addresses().control;
    let mut client = LimesClient::connect(format!("http://{addr}")).await.ok()?;
    Some(client.status(StatusRequest { local: false }).await.ok()?.into_inner())
}

async fn a_leader_that_was_stopped_declares_no_node_down(bed: &Bed) {
    let (leader, a, b) = bed.roles().await;
    let edges = [bed.edge(leader).await, bed.edge(a).await];
    let service = bed.service(b, "greeter").await;
    for edge in &edges {
        callable(&service, edge.id()).await;
    }
    bed.cluster.stop_signal(leader).await.unwrap();
    let stopped = Instant::now();
    until("another leader", || async { bed.cluster.leader().await.filter(|l| *l != leader) }).await;
    // Longer than twice the longest election timeout, and longer than the silence after which a leader declares
    // a node down.
    tokio::time::sleep((DOWN_AFTER * 3 / 2).saturating_sub(stopped.elapsed())).await;
    bed.cluster.cont_signal(leader).unwrap();
    for edge in &edges {
        callable(&service, edge.id()).await;
        assert_eq!(edge.call_within("echo", "x", PATIENCE).await.unwrap(), "x");
    }
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
    bed.all_show(&[1, 2, 3], "edges", 2).await;
    for node in [a, b] {
        let log = bed.log(node);
        assert!(!log.contains("this node was declared down"), "node-{node} was declared down wrongly");
    }
    for edge in &edges {
        edge.close().await;
    }
    service.close().await;
    bed.all_show(&[1, 2, 3], "edges", 0).await;
}

/// Calls in both directions between two nodes; none may fail.
struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    callers: Vec<JoinHandle<Result<(), CallError>>>,
}

impl Load {
    fn start(edge: &Edge, service: &Service) -> Load {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let caller = |up: bool| {
            let (edge, service) = (edge.clone(), service.clone());
            let (stop, count) = (stop.clone(), count.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if up {
                        edge.call_within("echo", "x", PATIENCE).await?;
                    } else {
                        service.call_within(edge.id(), "echo", "x", PATIENCE).await?;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let callers = [true, true, false, false].map(caller).into();
        Load { stop, count, callers }
    }

    /// Waits until so many more calls have succeeded.
    async fn flows(&self, more: u64) {
        let goal = self.count.load(Ordering::Relaxed) + more;
        until("calls flow", || async {
            let broken = self.callers.iter().any(JoinHandle::is_finished);
            (broken || self.count.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap().expect("a call failed");
        }
    }
}

/// A node is killed and restarted; no call between the two others fails.
async fn killed_under_load(bed: &Bed, killed: usize, meanwhile: impl AsyncFnOnce()) {
    let mut others = (1..=3).filter(|node| *node != killed);
    let (a, b) = (others.next().unwrap(), others.next().unwrap());
    let (edge, service) = (bed.edge(a).await, bed.service(b, "greeter").await);
    let load = Load::start(&edge, &service);
    load.flows(200).await;
    bed.cluster.kill9(killed).await.unwrap();
    meanwhile().await;
    load.flows(200).await;
    // Admission, which needs a leader, works again too.
    let newcomer = bed.edge(b).await;
    callable(&service, newcomer.id()).await;
    bed.cluster.restart(killed).unwrap();
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
    load.flows(200).await;
    load.end().await;
    edge.close().await;
    newcomer.close().await;
    service.close().await;
    bed.all_show(&[1, 2, 3], "edges", 0).await;
}

/// One edge reconnects elsewhere with its id; the others do not, and there is an offline callback for each.
async fn edges_of_a_killed_node(bed: &Bed, home: usize) {
    let other = 1 + home % 3;
    let (service, mut gone) = bed.offline_watcher(other).await;
    let edge = bed.edge(home).await;
    let id = edge.id();
    callable(&service, id).await;
    let mut crowd = Vec::new();
    while crowd.len() < CROWD {
        let mut some = JoinSet::new();
        for _ in 0..AT_ONCE {
            let address = bed.edges(home);
            some.spawn(async move { Bare::connect(&address, Hello::default()).await });
        }
        crowd.extend(some.join_all().await.into_iter().map(|came| came.expect("welcomed")));
    }
    let mut missing: BTreeSet<u64> = crowd.iter().map(|bare| bare.welcome.id).collect();
    assert_eq!(missing.len(), CROWD, "all ids differ");
    bed.all_show(&[other], "edges", CROWD as u64 + 1).await;
    bed.cluster.kill9(home).await.unwrap();
    callable(&service, id).await;
    assert_eq!(edge.id(), id);
    bed.all_show(&[other], "edges", 1).await;
    while !missing.is_empty() {
        let edge = timeout(PATIENCE, gone.recv()).await;
        let edge =
            edge.unwrap_or_else(|_| panic!("no offline callback for {} edges", missing.len())).unwrap();
        // There may also be one for the first session of the edge that reconnected.
        assert!(missing.remove(&edge) || crowd.iter().any(|bare| bare.welcome.id == edge) || edge == id);
    }
    bed.cluster.restart(home).unwrap();
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
    edge.close().await;
    service.close().await;
    bed.all_show(&[1, 2, 3], "edges", 0).await;
}

async fn all_nodes_killed_at_once_restart_without_orphaned_rows(bed: &Bed) {
    let edge = bed.edge(1).await;
    let stranger = bed.edge(2).await;
    let service = bed.service(3, "greeter").await;
    let id = edge.id();
    callable(&service, id).await;
    for node in 1..=3 {
        bed.cluster.kill9(node).await.unwrap();
    }
    stranger.close().await;
    for node in 1..=3 {
        bed.cluster.restart(node).unwrap();
    }
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
    callable(&service, id).await;
    until("the edge calls", || async { edge.call_within("echo", "still here", PATIENCE).await.ok() }).await;
    bed.all_show(&[1, 2, 3], "edges", 1).await;
    let newcomer = bed.edge(1).await;
    assert!(newcomer.id() > stranger.id(), "ids are not reused");
}
