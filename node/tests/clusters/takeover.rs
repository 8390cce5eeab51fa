//! Several connections with one edge id: the newest wins at once, on whichever node it is, and the requests in
//! flight on the old one fail at once.

use std::time::Duration;

use crate::support::bare::Bare;
use crate::support::{Bed, PATIENCE, callable, patient};
use limes_jepsen::proxy::{Fate, Proxy};
use limes_sdk::{Edge, Kind, Service};
use limes_wire::Code;
use limes_wire::frame::{Frame, Hello};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;

/// Connections at once with one id.
const CROWD: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_of_an_edge_wins_at_once() {
    let bed = Bed::start_with(3, |config| {
        patient(config);
        // Requests must not fail because a node is declared down,
        config.cluster.down_after = Some(PATIENCE);
        // nor because a peer does not read.
        config.limits.stall = PATIENCE;
    })
    .await;
    let service = bed.service(3, "greeter").await;
    // One on the old connection's node and one on another: they learn of its end in different ways.
    let near = bed.service(1, "near").await;
    for home in [1, 2] {
        half_open(&bed, [&service, &near], home).await;
    }
    near.close().await;
    moving_only_retires(&bed, &service).await;
    one_of_many_concurrent_connections_stays(&bed, &service).await;
    service.close().await;
    calls_end_although_the_old_node_is_stopped(&bed).await;
    a_service_that_leaves_does_not_disturb_another(&bed).await;
}

/// An edge's connection to node 1 stops passing bytes and stays open; the edge connects again, to node `home`.
async fn half_open(bed: &Bed, services: [&Service; 2], home: usize) {
    let proxy = Proxy::start(bed.edges(1)).await.unwrap();
    let address = proxy.address().to_string();
    // Neither end notices the silence: what ends the old session is the new one.
    let old = Edge::builder().address(address).keepalive(PATIENCE).connect_timeout(PATIENCE);
    let old = old.connect().await.unwrap();
    let (begin, mut begun) = unbounded_channel();
    old.register("hang", move |_| {
        let _ = begin.send(());
        std::future::pending()
    });
    let id = old.id();
    let hanging = services.map(|caller| {
        let caller = caller.clone();
        tokio::spawn(async move { caller.call_within(id, "hang", "", PATIENCE).await })
    });
    for _ in &hanging {
        begun.recv().await.expect("the call is in flight");
    }
    proxy.all(Fate::Freeze);
    // More than the sockets on the way hold: the close of the old connection must not queue behind it.
    let mut stuck = JoinSet::new();
    for caller in services.into_iter().cycle().take(30) {
        let caller = caller.clone();
        stuck.spawn(async move { caller.call_within(id, "hang", vec![7; 1 << 20], PATIENCE).await });
    }
    let new = Edge::builder().address(bed.edges(home)).ticket(old.ticket()).connect_timeout(PATIENCE);
    let new = new.connect().await.unwrap();
    new.register("echo", |call| async move { Ok(call.body) });
    assert_eq!(new.id(), id);
    callable(services[0], id).await;
    for hanging in hanging {
        let error = hanging.await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.code(), error.may_have_run()), (Kind::Gone, Code::REPLACED, true));
    }
    // What the old connection did not get goes to the new one, which has no such method, or fails unread.
    while let Some(ended) = stuck.join_next().await {
        let error = ended.unwrap().unwrap_err();
        let may_have_run = error.code() == Code::REPLACED;
        let is_exact = may_have_run || error.kind() == Kind::NoMethod || error.retryable();
        assert!(is_exact && error.may_have_run() == may_have_run, "{error}");
    }
    bed.all_show(&[1, 2, 3], "edges", 1).await;
    // Its farewell goes nowhere, so nothing waits for it.
    tokio::spawn(async move { old.close().await });
    new.close().await;
    bed.all_show(&[1, 2, 3], "edges", 0).await;
}

/// The node of the old connection is stopped: the nodes that forwarded calls to it fail them without its answer,
/// and route new calls to the new connection.
async fn calls_end_although_the_old_node_is_stopped(bed: &Bed) {
    let (leader, asleep, other) = bed.roles().await;
    let service = bed.service(other, "caller").await;
    let mut old = Bare::edge(&bed.edges(asleep)).await;
    let (id, ticket) = (old.welcome.id, old.welcome.ticket.clone());
    let call = |method: &'static str| {
        let caller = service.clone();
        tokio::spawn(async move { caller.call_within(id, method, "x", PATIENCE).await })
    };
    let hanging = call("hang");
    old.called().await;
    bed.cluster.stop_signal(asleep).await.unwrap();
    let mut new = Bare::again(&bed.edges(leader), &ticket, false).await;
    let late = call("late");
    let called = new.called().await;
    new.reply(called).await;
    assert_eq!(late.await.unwrap().unwrap(), "x");
    let error = hanging.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.code(), error.may_have_run()), (Kind::Gone, Code::REPLACED, true));
    bed.cluster.cont_signal(asleep).unwrap();
    assert_eq!(old.goaway().await.code, Code::REPLACED);
    drop(new);
    service.close().await;
    bed.all_show(&[1, 2, 3], "edges", 0).await;
}

/// An edge that moves in order finishes what is in flight on its old session.
async fn moving_only_retires(bed: &Bed, service: &Service) {
    for home in [1, 2] {
        let mut old = Bare::edge(&bed.edges(1)).await;
        let id = old.welcome.id;
        let caller = service.clone();
        let call = move |body: &'static str| {
            let caller = caller.clone();
            tokio::spawn(async move { caller.call_within(id, "echo", body, PATIENCE).await })
        };
        let early = call("early");
        let held = old.called().await;
        let mut new = Bare::again(&bed.edges(home), &old.welcome.ticket.clone(), true).await;
        assert_eq!(new.welcome.id, id);
        assert_eq!(old.goaway().await.code, Code::REPLACED);
        let late = call("late");
        let onward = new.called().await;
        assert_eq!(onward.body, "late");
        new.reply(onward).await;
        assert_eq!(late.await.unwrap().unwrap(), "late");
        old.reply(held).await;
        assert_eq!(early.await.unwrap().unwrap(), "early");
        // Nothing is in flight any more: the node closes the old session.
        while old.read().await.is_some() {}
        drop(new);
        bed.all_show(&[1, 2, 3], "edges", 0).await;
    }
}

async fn one_of_many_concurrent_connections_stays(bed: &Bed, service: &Service) {
    let first = Bare::edge(&bed.edges(1)).await;
    let (id, ticket) = (first.welcome.id, first.welcome.ticket.clone());
    let mut crowd = JoinSet::new();
    for n in 0..CROWD {
        let (address, ticket) = (bed.edges(1 + n % 3), ticket.clone());
        crowd.spawn(async move { Bare::connect(&address, Hello { ticket, ..Hello::default() }).await });
    }
    let mut open = vec![first];
    while let Some(came) = crowd.join_next().await {
        match came.unwrap() {
            Ok(bare) => open.push(bare),
            // Replaced before it was welcomed.
            Err(goaway) => assert_eq!(goaway.expect("a goaway says why").code, Code::REPLACED),
        }
    }
    bed.all_show(&[1, 2, 3], "edges", 1).await;
    let newest = open.iter().map(|bare| bare.welcome.incarnation).max();
    let caller = service.clone();
    let call = tokio::spawn(async move { caller.call_within(id, "echo", "who", PATIENCE).await });
    let mut ends = JoinSet::new();
    for mut bare in open {
        ends.spawn(async move {
            match bare.read().await {
                Some(Frame::Call(call)) => {
                    bare.reply(call).await;
                    Some(bare)
                }
                Some(Frame::GoAway(goaway)) => {
                    assert_eq!(goaway.code, Code::REPLACED);
                    None
                }
                other => panic!("neither a call nor a goaway: {other:?}"),
            }
        });
    }
    let stayed: Vec<_> = ends.join_all().await.into_iter().flatten().collect();
    assert_eq!(call.await.unwrap().unwrap(), "who");
    assert_eq!(stayed.len(), 1, "exactly one session stays");
    assert_eq!(Some(stayed[0].welcome.incarnation), newest, "the newest session stays");
    drop(stayed);
    bed.all_show(&[1, 2, 3], "edges", 0).await;
}

async fn a_service_that_leaves_does_not_disturb_another(bed: &Bed) {
    let edges = [bed.edge(1).await, bed.edge(2).await, bed.edge(3).await];
    let stays = bed.service(1, "stays").await;
    let leaves = bed.service(2, "leaves").await;
    leaves.close().await;
    for round in 0..100 {
        for edge in &edges {
            let who = edge.call_within("who", "", Duration::from_secs(30)).await;
            assert!(who.as_ref().is_ok_and(|who| who == "stays"), "round {round}: {who:?}");
        }
    }
    stays.close().await;
}
