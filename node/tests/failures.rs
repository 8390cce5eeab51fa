//! Nodes that are killed, paused and brought back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limes_sdk::Edge;
use support::{Bed, PATIENCE, callable, until};

#[tokio::test]
async fn no_call_between_the_others_fails_when_the_leader_is_killed() {
    let bed = Bed::start(3).await;
    let (leader, a, b) = bed.roles().await;
    let edge = bed.edge(a).await;
    let service = bed.service(b, "greeter").await;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|caller| {
            let (edge, service) = (edge.clone(), service.clone());
            let (stop, count) = (stop.clone(), count.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let result = if caller % 2 == 0 {
                        edge.call_within("echo", "x", PATIENCE).await
                    } else {
                        service.call_within(edge.id(), "echo", "x", PATIENCE).await
                    };
                    result?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, limes_sdk::CallError>(())
            })
        })
        .collect();
    let flow = |more: u64| {
        let goal = count.load(Ordering::Relaxed) + more;
        let (count, load) = (&count, &load);
        until("calls flow", move || async move {
            let broken = load.iter().any(tokio::task::JoinHandle::is_finished);
            (broken || count.load(Ordering::Relaxed) >= goal).then_some(())
        })
    };
    flow(200).await;
    bed.cluster.kill9(leader).await.unwrap();
    until("another leader", || async { bed.cluster.leader().await.filter(|l| *l != leader) }).await;
    flow(200).await;
    stop.store(true, Ordering::Relaxed);
    for caller in load {
        caller.await.unwrap().expect("a call failed");
    }
    // What needs agreement works again too.
    let newcomer = bed.edge(a).await;
    callable(&service, newcomer.id()).await;
}

#[tokio::test]
async fn an_edge_whose_node_is_killed_is_callable_elsewhere_with_its_id() {
    let bed = Bed::start(3).await;
    let (_, home, other) = bed.roles().await;
    let edge = bed.edge(home).await;
    let service = bed.service(other, "greeter").await;
    let id = edge.id();
    callable(&service, id).await;
    bed.cluster.kill9(home).await.unwrap();
    callable(&service, id).await;
    assert_eq!(edge.id(), id);
}

#[tokio::test]
async fn presence_of_edges_that_do_not_return_is_gone_soon() {
    let bed = Bed::start(3).await;
    let (leader, home, _) = bed.roles().await;
    // An edge that knows no other node and does not come back.
    let edge = bed.edge(home).await;
    until("the leader sees it", || async { (bed.figure(leader, "edges").await == Some(1)).then_some(()) })
        .await;
    bed.cluster.kill9(home).await.unwrap();
    edge.close().await;
    until("no ghost", || async { (bed.figure(leader, "edges").await == Some(0)).then_some(()) }).await;
}

#[tokio::test]
async fn all_nodes_killed_at_once_come_back_without_ghosts() {
    let bed = Bed::start(3).await;
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
    assert_eq!(edge.call("echo", "still here").await.unwrap(), "still here");
    until("one edge and no ghost", || async {
        let mut seen = Vec::new();
        for node in 1..=3 {
            seen.push(bed.figure(node, "edges").await);
        }
        (seen == [Some(1); 3]).then_some(())
    })
    .await;
    let newcomer = bed.edge(1).await;
    assert!(newcomer.id() > stranger.id(), "ids are not given out again");
}

#[tokio::test]
async fn a_leader_that_was_asleep_declares_nobody_dead() {
    let bed = Bed::start(3).await;
    let (leader, a, b) = bed.roles().await;
    let edges = [bed.edge(leader).await, bed.edge(a).await];
    let service = bed.service(b, "greeter").await;
    for edge in &edges {
        callable(&service, edge.id()).await;
    }
    bed.cluster.stop_signal(leader).unwrap();
    // Longer than any election takes, and than the silence after which others would be declared down.
    until("another leader", || async { bed.cluster.leader().await.filter(|l| *l != leader) }).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    bed.cluster.cont_signal(leader).unwrap();
    for edge in &edges {
        callable(&service, edge.id()).await;
        assert_eq!(edge.call("echo", "x").await.unwrap(), "x");
    }
    for node in [a, b] {
        let log = bed.log(node);
        assert!(!log.contains("this node was declared down"), "node-{node} was declared down wrongly");
    }
    until("all agree", || async {
        let statuses = bed.cluster.statuses().await;
        let figure = |name: &str| {
            let mut all = statuses.iter().map(|status| status.more.get(name).cloned());
            let first = all.next()?;
            all.all(|other| other == first).then_some(())
        };
        let led = statuses.iter().all(|s| s.leader.is_some() && s.leader == statuses[0].leader);
        (statuses.len() == 3 && led).then(|| figure("edges").and(figure("services"))).flatten()
    })
    .await;
}

#[tokio::test]
async fn an_edge_whose_old_connection_is_half_open_is_served_at_once() {
    let bed = Bed::start(3).await;
    let service = bed.service(3, "greeter").await;
    let proxy = proxy::Frozen::start(bed.edges(1)).await;
    let old = Edge::builder().address(proxy.address()).connect().await.unwrap();
    old.register("echo", |call| async move { Ok(call.body) });
    callable(&service, old.id()).await;
    proxy.freeze();
    let began = Instant::now();
    let new = Edge::builder().address(bed.edges(2)).ticket(old.ticket()).connect().await.unwrap();
    new.register("echo", |call| async move { Ok(call.body) });
    assert_eq!(new.id(), old.id());
    callable(&service, new.id()).await;
    // Long before the old connection's silence could have told anybody that it is dead.
    assert!(began.elapsed() < limes_wire::limits::KEEPALIVE, "{:?}", began.elapsed());
}

/// A TCP proxy that can stop passing bytes without closing anything.
mod proxy {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    pub(crate) struct Frozen {
        address: String,
        frozen: Arc<AtomicBool>,
    }

    impl Frozen {
        pub(crate) async fn start(to: String) -> Frozen {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let frozen = Arc::new(AtomicBool::new(false));
            let ice = frozen.clone();
            tokio::spawn(async move {
                while let Ok((near, _)) = listener.accept().await {
                    let far = TcpStream::connect(&to).await.unwrap();
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    tokio::spawn(carry(near_read, far_write, ice.clone()));
                    tokio::spawn(carry(far_read, near_write, ice.clone()));
                }
            });
            Frozen { address, frozen }
        }

        pub(crate) fn address(&self) -> &str {
            &self.address
        }

        pub(crate) fn freeze(&self) {
            self.frozen.store(true, Ordering::SeqCst);
        }
    }

    async fn carry(
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        frozen: Arc<AtomicBool>,
    ) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut buffer).await.unwrap_or(0);
            if frozen.load(Ordering::SeqCst) {
                // Neither bytes nor an end get through.
                std::future::pending::<()>().await;
            }
            if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}
