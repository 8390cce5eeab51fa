//! Faults of nodes and connections, each timed.

use std::time::{Duration, Instant};

use limes_sdk::{Edge, Service};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::load::Load;
use super::table::Table;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::proxy::{Fate, Proxy};

/// Edges of the killed node that do not reconnect.
const LOST: usize = 50;
/// Time limit for any recovery: after it, the recovery counts as never happening.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two polls of a state.
const POLL: Duration = Duration::from_millis(5);
/// Deadline of a call that probes whether its receiver can be reached.
const PROBE: Duration = Duration::from_millis(250);

async fn service(cluster: &Cluster, node: usize) -> Result<Service, Error> {
    let service = Service::builder("figures").address(&cluster.nodes()[node].services).connect().await?;
    service.register("echo", |call| async move { Ok(call.body) }).await?;
    Ok(service)
}

fn answer_echo(edge: &Edge) {
    edge.register("echo", |call| async move { Ok(call.body) });
}

/// Waits until a call reaches the edge.
async fn reached(service: &Service, edge: u64) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match service.call_within(edge, "echo", "", PROBE).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(_) => sleep(POLL).await,
        }
    }
}

/// An edge whose connection is half-open connects again: to the same node, and to another.
pub(super) async fn takeovers(cluster: &Cluster, table: &mut Table) -> Result<(), Error> {
    let service = service(cluster, 2).await?;
    for home in [0, 1] {
        let proxy = Proxy::start(&cluster.nodes()[0].edges).await?;
        let old = Edge::builder().address(proxy.address().to_string()).connect().await?;
        answer_echo(&old);
        reached(&service, old.id()).await?;
        proxy.all(Fate::Freeze);
        let began = Instant::now();
        let new =
            Edge::builder().address(&cluster.nodes()[home].edges).ticket(old.ticket()).connect().await?;
        answer_echo(&new);
        reached(&service, old.id()).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let figure =
            if home == 0 { &mut table.takeover_same_node_ms } else { &mut table.takeover_other_node_ms };
        figure.add(took);
        // Dropped, not closed: through the frozen proxy an orderly close would only run into its time limit.
        drop(old);
        new.close().await;
    }
    service.close().await;
    Ok(())
}

/// A node is killed: one of its edges connects to another node, the others never come back. If the node was the
/// leader, calls between the other nodes must not fail.
pub(super) async fn node_killed(
    cluster: &mut Cluster,
    killed: usize,
    table: &mut Table,
) -> Result<(), Error> {
    let others = [(killed + 1) % 3, (killed + 2) % 3];
    let was_leader = cluster.leader(&others).await == Some(killed);
    let service = service(cluster, others[0]).await?;
    let back = Edge::builder().address(&cluster.nodes()[killed].edges).connect().await?;
    answer_echo(&back);
    let stays = Edge::builder().address(&cluster.nodes()[others[1]].edges).connect().await?;
    answer_echo(&stays);
    let mut lost = Vec::new();
    for _ in 0..LOST {
        lost.push(Edge::builder().address(&cluster.nodes()[killed].edges).connect().await?);
    }
    reached(&service, back.id()).await?;
    reached(&service, stays.id()).await?;
    edges_shown(cluster, &others, LOST as u64 + 2).await?;
    let load = Load::start(&stays, &service);
    sleep(Duration::from_millis(300)).await;
    cluster.signal(killed, Signal::SIGKILL)?;
    let began = Instant::now();
    for edge in &lost {
        edge.close().await;
    }
    let since = |done: Result<(), Error>| done.map(|()| began.elapsed().as_secs_f64());
    let (is_back, gone, committed) = tokio::join!(
        async { since(reached(&service, back.id()).await) },
        // The edge that came back, and the one of another node.
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

/// Waits until each of these nodes shows so many edges.
async fn edges_shown(cluster: &Cluster, nodes: &[usize], wanted: u64) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
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
        sleep(POLL).await;
    }
    Err(Error::timeout(format!("the other nodes did not show {wanted} edges"), PATIENCE))
}

/// Waits until a registration is committed.
async fn committed(service: &Service) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    let mut attempt: u64 = 0;
    while Instant::now() < until {
        attempt += 1;
        let name = format!("figure-{attempt}");
        if service.register(&name, |call| async move { Ok(call.body) }).await.is_ok() {
            return Ok(());
        }
        sleep(POLL).await;
    }
    Err(Error::timeout("no registration was committed", PATIENCE))
}
