//! Faults of nodes and connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limes_sdk::{Edge, Service};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::{Failure, Table};
use crate::cluster::Cluster;
use crate::proxy::{Fate, Proxy};

/// Edges of a node that is killed which never return.
const STRANGERS: usize = 50;
/// How long anything is waited for: longer means that it never comes.
const NEVER: Duration = Duration::from_secs(60);
/// How often a state that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long one call of a poll may take.
const CALL: Duration = Duration::from_millis(250);

async fn service(cluster: &Cluster, node: usize) -> Result<Service, Failure> {
    let service = Service::builder("figures").address(&cluster.nodes()[node].services).connect().await?;
    service.register("echo", |call| async move { Ok(call.body) }).await?;
    Ok(service)
}

fn echoes(edge: &Edge) {
    edge.register("echo", |call| async move { Ok(call.body) });
}

/// Waits until a call reaches the edge.
async fn reached(service: &Service, edge: u64) -> Result<(), Failure> {
    let until = Instant::now() + NEVER;
    let mut last = None;
    while Instant::now() < until {
        match service.call_within(edge, "echo", "", CALL).await {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        sleep(LOOK).await;
    }
    Err(format!("edge {edge} cannot be called: {last:?}").into())
}

/// An edge whose connection is half-open comes again, to the same node and to another.
pub(super) async fn takeovers(cluster: &Cluster, table: &mut Table) -> Result<(), Failure> {
    let service = service(cluster, 2).await?;
    for home in [0, 1] {
        let proxy = Proxy::start(&cluster.nodes()[0].edges).await?;
        let old = Edge::builder().address(proxy.address().to_string()).connect().await?;
        echoes(&old);
        reached(&service, old.id()).await?;
        proxy.all(Fate::Freeze);
        let began = Instant::now();
        let new =
            Edge::builder().address(&cluster.nodes()[home].edges).ticket(old.ticket()).connect().await?;
        echoes(&new);
        reached(&service, old.id()).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let figure =
            if home == 0 { &mut table.takeover_same_node_ms } else { &mut table.takeover_other_node_ms };
        figure.add(took);
        // It says good-bye into the ice: nobody waits for that.
        tokio::spawn(async move { old.close().await });
        new.close().await;
    }
    service.close().await;
    Ok(())
}

/// A node is killed: one of its edges comes back elsewhere, the others never do. If it was the leader,
/// calls between the others must not notice.
pub(super) async fn node_killed(
    cluster: &mut Cluster,
    killed: usize,
    table: &mut Table,
) -> Result<(), Failure> {
    let others = [(killed + 1) % 3, (killed + 2) % 3];
    let was_leader = cluster.leader(&others).await == Some(killed);
    let service = service(cluster, others[0]).await?;
    let back = Edge::builder().address(&cluster.nodes()[killed].edges).connect().await?;
    echoes(&back);
    let stays = Edge::builder().address(&cluster.nodes()[others[1]].edges).connect().await?;
    echoes(&stays);
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        strangers.push(Edge::builder().address(&cluster.nodes()[killed].edges).connect().await?);
    }
    reached(&service, back.id()).await?;
    reached(&service, stays.id()).await?;
    edges_shown(cluster, &others, STRANGERS as u64 + 2).await?;
    let load = Load::start(&stays, &service);
    sleep(Duration::from_millis(300)).await;
    cluster.signal(killed, Signal::SIGKILL)?;
    let began = Instant::now();
    for stranger in &strangers {
        stranger.close().await;
    }
    let since = |done: Result<(), Failure>| done.map(|()| began.elapsed().as_secs_f64());
    let (is_back, gone, committed) = tokio::join!(
        async { since(reached(&service, back.id()).await) },
        // The one that came back is shown again, and the one that stayed.
        async { since(edges_shown(cluster, &others, 2).await) },
        async { since(committed(&service).await) },
    );
    table.edge_back_elsewhere_s.add(is_back?);
    table.presence_gone_s.add(gone?);
    let failed = load.end().await?;
    if was_leader {
        table.leader_killed_next_commit_s.add(committed?);
        table.leader_killed_calls_failed.add(failed as f64);
    } else {
        committed?;
    }
    cluster.restart(killed)?;
    cluster.wait_ready().await?;
    for edge in [&back, &stays] {
        edge.close().await;
    }
    service.close().await;
    Ok(())
}

/// Waits until all of these nodes show so many edges.
async fn edges_shown(cluster: &Cluster, nodes: &[usize], wanted: u64) -> Result<(), Failure> {
    let until = Instant::now() + NEVER;
    while Instant::now() < until {
        let mut all = true;
        for node in nodes {
            let status = cluster.status(*node).await;
            let edges = status.and_then(|status| status.get("edges")?.as_u64());
            all &= edges == Some(wanted);
        }
        if all {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    Err(format!("the others never showed {wanted} edges").into())
}

/// Waits until a registration is committed.
async fn committed(service: &Service) -> Result<(), Failure> {
    let until = Instant::now() + NEVER;
    let mut turn: u64 = 0;
    while Instant::now() < until {
        turn += 1;
        let name = format!("figure-{turn}");
        if service.register(&name, |call| async move { Ok(call.body) }).await.is_ok() {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    Err("nothing was committed any more".into())
}

/// Calls both ways between an edge and a service.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(edge: &Edge, service: &Service) -> Load {
        let (stop, done, failed) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Load { stop, done, failed, callers: Vec::new() };
        for up in [true, false] {
            let (edge, service) = (edge.clone(), service.clone());
            let (stop, done, failed) = (load.stop.clone(), load.done.clone(), load.failed.clone());
            load.callers.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let ended = match up {
                        true => edge.call_within("echo", "x", NEVER).await,
                        false => service.call_within(edge.id(), "echo", "x", NEVER).await,
                    };
                    if let Err(error) = &ended {
                        eprintln!("a call between the others failed: {error}");
                    }
                    if ended.is_err() { &failed } else { &done }.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(1)).await;
                }
            }));
        }
        load
    }

    /// How many failed.
    async fn end(self) -> Result<u64, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await?;
        }
        match self.done.load(Ordering::Relaxed) {
            0 => Err("no call was made".into()),
            _ => Ok(self.failed.load(Ordering::Relaxed)),
        }
    }
}
