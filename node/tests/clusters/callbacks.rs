//! Callbacks of services about edges, also when the node that makes them dies. `failures` covers the callbacks for
//! all edges of a node that died.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::bare::Bare;
use crate::support::{Bed, PATIENCE, brisk};
use limes_sdk::{ConnectError, Edge, Failed};
use limes_wire::frame::Hello;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Edges that disconnect at the same time.
const CROWD: u64 = 150;
/// Callbacks that one node has in flight at most.
const PACE: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn services_get_callbacks_and_decide_about_edges() {
    let bed = Bed::start_with(3, |config| {
        brisk(config);
        config.cluster.down_after = Some(Duration::from_millis(1_500));
        config.cluster.suspend_grace = Duration::from_millis(500);
    })
    .await;
    offline_callbacks_in_flight_are_limited(&bed).await;
    a_service_gives_ids_and_refuses_edges(&bed).await;
    a_registered_callback_is_called_on_every_node(&bed).await;
    callbacks_of_a_dying_node_are_made_by_another(&bed).await;
}

/// R4, where only services give ids: a service gives them on every node as soon as its registration is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_registered_service_gives_ids_on_every_node() {
    let bed = Bed::start_with(3, |config| {
        brisk(config);
        config.edgebound.edgeid_alloc_when_no_idservice_on = false;
    })
    .await;
    let (leader, one, another) = bed.roles().await;
    let hello = |meta: &'static str| Hello { meta: meta.into(), ..Hello::default() };
    for round in 0..30 {
        let service = bed.service(leader, "ids").await;
        service.on_get_edge_id(|edge| async move { Ok(1_000 + edge.meta.len() as u64) }).await.unwrap();
        let (one, another) = (bed.edges(one), bed.edges(another));
        let came = tokio::join!(Bare::connect(&one, hello("a")), Bare::connect(&another, hello("bb")));
        let came = (came.0.map(|bare| bare.welcome.id), came.1.map(|bare| bare.welcome.id));
        assert!(matches!(came, (Ok(1_001), Ok(1_002))), "round {round}: {came:?}");
        service.close().await;
    }
    let refused = Bare::connect(&bed.edges(one), hello("a")).await.err().flatten();
    assert_eq!(refused.map(|goaway| goaway.code), Some(limes_wire::Code::AUTH));
}

async fn offline_callbacks_in_flight_are_limited(bed: &Bed) {
    let service = bed.service(2, "offline-watcher").await;
    let (offline, mut gone) = unbounded_channel();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let worst = most.clone();
    let registered = service.on_edge_offline(move |edge| {
        let (offline, now, most) = (offline.clone(), now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            let _ = offline.send(edge.edge);
            Ok(())
        }
    });
    registered.await.unwrap();
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let address = bed.edges(1);
        crowd.spawn(async move { Bare::edge(&address).await });
    }
    let crowd = crowd.join_all().await;
    let mut missing: BTreeSet<u64> = crowd.iter().map(|bare| bare.welcome.id).collect();
    drop(crowd);
    while !missing.is_empty() {
        let edge = timeout(PATIENCE, gone.recv()).await;
        let edge = edge.unwrap_or_else(|_| panic!("no offline callback for {missing:?}"));
        missing.remove(&edge.unwrap());
    }
    let most = worst.load(Ordering::SeqCst);
    assert!((2..=PACE).contains(&most), "{most} callbacks at once");
    service.close().await;
}

/// A node dies during the online callback of one edge and the offline callback of another: another node makes
/// the offline callbacks of both.
async fn callbacks_of_a_dying_node_are_made_by_another(bed: &Bed) {
    let (leader, asks, _) = bed.roles().await;
    let service = bed.service(leader, "offline-watcher").await;
    let (begin, mut begun) = unbounded_channel();
    let (first, online) = (begin.clone(), begin.clone());
    let held = Arc::new(AtomicU64::new(0));
    let hold = held.clone();
    let registered = service.on_edge_offline(move |edge| {
        let (begin, hold) = (first.clone(), hold.clone());
        async move {
            let _ = begin.send(("offline", edge.edge));
            if hold.compare_exchange(edge.edge, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                // The first callback gets no answer before its node is dead.
                pending::<()>().await;
            }
            Ok(())
        }
    });
    registered.await.unwrap();
    let leaves = bed.edge(asks).await;
    let registered = service.on_edge_online(move |edge| {
        let _ = online.send(("online", edge.edge));
        pending()
    });
    registered.await.unwrap();
    held.store(leaves.id(), Ordering::SeqCst);
    leaves.close().await;
    // Callbacks for other edges may have been pending.
    while next(&mut begun).await != ("offline", leaves.id()) {}
    let address = bed.edges(asks);
    let waits = tokio::spawn(async move { Bare::connect(&address, Hello::default()).await.is_ok() });
    let asked = loop {
        if let ("online", edge) = next(&mut begun).await {
            break edge;
        }
    };
    bed.cluster.kill9(asks).await.unwrap();
    assert!(!waits.await.unwrap(), "an edge is not welcomed during its online callback");
    let mut missing = BTreeSet::from([leaves.id(), asked]);
    while !missing.is_empty() {
        let (what, edge) = next(&mut begun).await;
        assert_eq!(what, "offline");
        missing.remove(&edge);
    }
    bed.cluster.restart(asks).unwrap();
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
    service.close().await;
}

async fn next<T>(callbacks: &mut UnboundedReceiver<T>) -> T {
    timeout(PATIENCE, callbacks.recv()).await.expect("a callback").expect("the service is open")
}

async fn a_service_gives_ids_and_refuses_edges(bed: &Bed) {
    let service = bed.service(3, "doorman").await;
    service.on_get_edge_id(|edge| async move { Ok(1_000 + edge.meta.len() as u64) }).await.unwrap();
    service
        .on_edge_online(|edge| async move {
            if &edge.meta[..] == b"burglar" { Err(Failed::new("not you")) } else { Ok(()) }
        })
        .await
        .unwrap();
    let edge = Edge::builder()
        .address(bed.edges(1))
        .meta("guest")
        .connect_timeout(PATIENCE)
        .connect()
        .await
        .unwrap();
    assert_eq!(edge.id(), 1_005);
    let refused = Edge::builder().address(bed.edges(2)).meta("burglar").connect_timeout(PATIENCE);
    match refused.connect().await {
        Err(ConnectError::Refused { text, .. }) => assert!(text.contains("not you"), "{text}"),
        other => panic!("not refused: {other:?}"),
    }
    edge.close().await;
    service.close().await;
}

/// R4: also on nodes that have not applied the registration yet.
async fn a_registered_callback_is_called_on_every_node(bed: &Bed) {
    let (leader, one, another) = bed.roles().await;
    let mut held = Bare::edge(&bed.edges(leader)).await;
    let again = Hello { ticket: held.welcome.ticket.clone(), ..Hello::default() };
    let caller = bed.service(leader, "caller").await;
    for round in 0..30 {
        let service = bed.service(leader, "doorman").await;
        let registered = service.on_edge_online(|_| async { Err(Failed::new("not today")) });
        registered.await.unwrap();
        let (one, another) = (bed.edges(one), bed.edges(another));
        let came = tokio::join!(
            Bare::connect(&one, Hello::default()),
            Bare::connect(&another, Hello::default()),
            Bare::connect(&another, again.clone())
        );
        let came = [came.0.is_ok(), came.1.is_ok(), came.2.is_ok()];
        assert_eq!(came, [false; 3], "round {round}: no callback was made");
        service.close().await;
    }
    bed.all_show(&[1, 2, 3], "edges", 1).await;
    // The refused connection has not replaced the session.
    let id = held.welcome.id;
    let call = tokio::spawn(async move { caller.call_within(id, "x", "still", PATIENCE).await });
    let called = held.called().await;
    held.reply(called).await;
    assert_eq!(call.await.unwrap().unwrap(), "still");
    drop(held);
    bed.all_show(&[1, 2, 3], "edges", 0).await;
}
