//! What services are asked and told about edges, also when whoever asks dies; that all edges of a node that
//! died are told is in `failures`.

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

/// Edges that leave at once.
const CROWD: u64 = 150;
/// Callbacks that one node has under way at once.
const PACE: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_told_of_ends_and_decides_ids_and_who_may_come() {
    let bed = Bed::start_with(3, |config| {
        brisk(config);
        config.cluster.down_after = Some(Duration::from_millis(1_500));
        config.cluster.suspend_grace = Duration::from_millis(500);
    })
    .await;
    ends_are_told_at_a_pace_that_a_service_can_bear(&bed).await;
    a_service_decides_ids_and_who_may_come(&bed).await;
    whoever_is_acknowledged_is_asked_from_then_on_everywhere(&bed).await;
    whoever_was_asking_dies(&bed).await;
}

/// R4, where nobody but a service gives ids: who has been acknowledged gives them from then on everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_acknowledged_gives_ids_from_then_on_everywhere() {
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

async fn ends_are_told_at_a_pace_that_a_service_can_bear(bed: &Bed) {
    let service = bed.service(2, "mourner").await;
    let (tell, mut gone) = unbounded_channel();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let worst = most.clone();
    let told = service.on_edge_offline(move |edge| {
        let (tell, now, most) = (tell.clone(), now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            let _ = tell.send(edge.edge);
            Ok(())
        }
    });
    told.await.unwrap();
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let address = bed.edges(1);
        crowd.spawn(async move { Bare::edge(&address).await });
    }
    let crowd = crowd.join_all().await;
    let mut missing: BTreeSet<u64> = crowd.iter().map(|bare| bare.welcome.id).collect();
    drop(crowd);
    while !missing.is_empty() {
        let told =
            timeout(PATIENCE, gone.recv()).await.unwrap_or_else(|_| panic!("{missing:?} were never told"));
        missing.remove(&told.unwrap());
    }
    let most = worst.load(Ordering::SeqCst);
    assert!((2..=PACE).contains(&most), "{most} at once");
    service.close().await;
}

/// A node dies while it asks whether an edge may come, and while it tells that another has gone: the services
/// are told of both ends by another node.
async fn whoever_was_asking_dies(bed: &Bed) {
    let (leader, asks, _) = bed.roles().await;
    let service = bed.service(leader, "undertaker").await;
    let (begin, mut begun) = unbounded_channel();
    let (first, online) = (begin.clone(), begin.clone());
    let held = Arc::new(AtomicU64::new(0));
    let hold = held.clone();
    let told = service.on_edge_offline(move |edge| {
        let (begin, hold) = (first.clone(), hold.clone());
        async move {
            let _ = begin.send(("offline", edge.edge));
            if hold.compare_exchange(edge.edge, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                // Once it gets no answer; by then its node is dead.
                pending::<()>().await;
            }
            Ok(())
        }
    });
    told.await.unwrap();
    let leaves = bed.edge(asks).await;
    let told = service.on_edge_online(move |edge| {
        let _ = online.send(("online", edge.edge));
        pending()
    });
    told.await.unwrap();
    held.store(leaves.id(), Ordering::SeqCst);
    leaves.close().await;
    // Others that nobody could be told of so far may be told first.
    while next(&mut begun).await != ("offline", leaves.id()) {}
    let address = bed.edges(asks);
    let waits = tokio::spawn(async move { Bare::connect(&address, Hello::default()).await.is_ok() });
    let asked = loop {
        if let ("online", edge) = next(&mut begun).await {
            break edge;
        }
    };
    bed.cluster.kill9(asks).await.unwrap();
    assert!(!waits.await.unwrap(), "never welcomed");
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

async fn next<T>(told: &mut UnboundedReceiver<T>) -> T {
    timeout(PATIENCE, told.recv()).await.expect("told").expect("the service lives")
}

async fn a_service_decides_ids_and_who_may_come(bed: &Bed) {
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
    let refused = Edge::builder().address(bed.edges(2)).meta("burglar").connect().await;
    match refused {
        Err(ConnectError::Refused { text, .. }) => assert!(text.contains("not you"), "{text}"),
        other => panic!("not refused: {other:?}"),
    }
    edge.close().await;
    service.close().await;
}

/// R4: the other nodes may not have heard yet that somebody wants to be asked. They ask all the same.
async fn whoever_is_acknowledged_is_asked_from_then_on_everywhere(bed: &Bed) {
    let (leader, one, another) = bed.roles().await;
    let mut held = Bare::edge(&bed.edges(leader)).await;
    let again = Hello { ticket: held.welcome.ticket.clone(), ..Hello::default() };
    let caller = bed.service(leader, "caller").await;
    for round in 0..30 {
        let service = bed.service(leader, "doorman").await;
        let told = service.on_edge_online(|_| async { Err(Failed::new("nobody today")) });
        told.await.unwrap();
        let (one, another) = (bed.edges(one), bed.edges(another));
        let came = tokio::join!(
            Bare::connect(&one, Hello::default()),
            Bare::connect(&another, Hello::default()),
            Bare::connect(&another, again.clone())
        );
        let came = [came.0.is_ok(), came.1.is_ok(), came.2.is_ok()];
        assert_eq!(came, [false; 3], "in round {round} nobody was asked");
        service.close().await;
    }
    bed.all_show(&[1, 2, 3], "edges", 1).await;
    // Who was refused has taken nobody's place.
    let id = held.welcome.id;
    let call = tokio::spawn(async move { caller.call_within(id, "x", "still", PATIENCE).await });
    let called = held.called().await;
    held.reply(called).await;
    assert_eq!(call.await.unwrap().unwrap(), "still");
    drop(held);
    bed.all_show(&[1, 2, 3], "edges", 0).await;
}
