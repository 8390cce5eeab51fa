//! Nodes that do not reach each other: the proxies between them stop passing bytes, like a network that drops
//! packets.

use std::time::{Duration, Instant};

use crate::support::bare::Bare;
use crate::support::{Bed, PATIENCE, brisk, callable, until};
use bytes::BytesMut;
use limes_node::config::IsolatedClose;
use limes_sdk::{Edge, Kind, Service, State};
use limes_wire::Code;
use limes_wire::frame::{Frame, Hello};
use limes_wire::geminio::{Body, ConnData, Packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn isolated_nodes_serve_known_sessions_and_refuse_the_rest() {
    let bed = Bed::start_netted(3, |config| {
        brisk(config);
        config.cluster.down_after = Some(Duration::from_secs(2));
        // Its sessions are kept until it is back, also on a slow machine.
        config.cluster.suspend_grace = PATIENCE;
        config.cluster.isolated_close = IsolatedClose::After(Duration::from_millis(200));
    })
    .await;
    a_node_without_links_answers_that_known_peers_are_out_of_reach(&bed).await;
    clients_of_an_isolated_node_move_or_stay_served(&bed).await;
    geminio_edges_of_an_isolated_node_are_closed(&bed).await;
}

/// R4: a request to a peer in the tables succeeds or fails as retryable, never as "no such method".
async fn a_node_without_links_answers_that_known_peers_are_out_of_reach(bed: &Bed) {
    let (service, far) = (bed.service(3, "greeter").await, bed.edge(3).await);
    service.subscribe(["alarms"]).await.unwrap();
    bed.cluster.kill9(1).await.unwrap();
    bed.net().hold_links_of(1);
    bed.cluster.restart(1).unwrap();
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
    let edge = bed.edge(1).await;
    let near = bed.service(1, "caller").await;
    near.withdraw("echo").await.unwrap();
    let ((), (called, published, opened), (called_back, opened_back)) = tokio::join!(
        async {
            let absent = edge.call_within("nothing", "", PATIENCE).await.unwrap_err();
            assert_eq!(absent.kind(), Kind::NoMethod, "{absent}");
        },
        async {
            tokio::join!(
                edge.call_within("echo", "", PATIENCE),
                edge.publish("alarms", ""),
                edge.open_stream("greeter", "")
            )
        },
        async {
            tokio::join!(
                near.call_within(far.id(), "echo", "", PATIENCE),
                near.open_stream(far.id(), "tcp", "")
            )
        },
    );
    let errors = [
        called.unwrap_err(),
        published.unwrap_err(),
        opened.map(drop).unwrap_err(),
        called_back.unwrap_err(),
        opened_back.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.retryable()), (Kind::Gone, true), "{error}");
    }
    bed.net().heal();
    until("the service is reached", || async { edge.call_within("echo", "x", PATIENCE).await.ok() }).await;
    for client in [&edge, &far] {
        client.close().await;
    }
    for client in [&service, &near] {
        client.close().await;
    }
    bed.all_show(&[1, 2, 3], "edges", 0).await;
    bed.all_show(&[1, 2, 3], "services", 0).await;
}

/// R10: geminio edges cannot move by themselves. A node that has no connection to Raft, and that learns from the
/// others that they have the quorum, closes them, so that they connect elsewhere.
async fn geminio_edges_of_an_isolated_node_are_closed(bed: &Bed) {
    let mut edge = TcpStream::connect(bed.edges(1)).await.unwrap();
    let hello = Body::Conn { acquire: true, heartbeat: 3, client: 0, data: ConnData::default() };
    let mut bytes = BytesMut::new();
    let rest = Packet { id: 1, body: hello }.encode(&mut bytes).unwrap();
    bytes.extend_from_slice(&rest);
    edge.write_all(&bytes).await.unwrap();
    let mut byte = [0];
    timeout(PATIENCE, edge.read_exact(&mut byte)).await.expect("an answer").expect("accepted");
    bed.net().hold_raft_of(1);
    let end = timeout(PATIENCE, edge.read_to_end(&mut Vec::new())).await;
    let _ = end.expect("the node closes it before two heartbeats are missing");
    assert!(!is_ready(bed, 1).await);
    bed.net().heal();
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
}

/// Clients of node 1.
struct Clients {
    edge: Edge,
    service: Service,
    /// Cannot move to another node.
    bare_edge: Bare,
    bare_service: Bare,
}

async fn clients_of_an_isolated_node_move_or_stay_served(bed: &Bed) {
    let mut clients = Clients {
        edge: bed.edge(1).await,
        service: bed.service(1, "greeter").await,
        bare_edge: Bare::edge(&bed.edges(1)).await,
        bare_service: Bare::service(&bed.services(1), "bare", "bare").await,
    };
    let far = bed.service(3, "far").await;
    let id = clients.edge.id();
    assert_eq!(clients.edge.call("echo", "before").await.unwrap(), "before");
    callable(&far, id).await;

    bed.net().cut_off(&[1, 2, 3]);
    alone(bed, &mut clients).await;

    // The two others have a quorum again.
    bed.net().cut_off(&[1]);
    let elsewhere = |state: watch::Receiver<State>| matches!(&*state.borrow(), State::Connected(node) if node != "node-1");
    let moved = |clients: &Clients| elsewhere(clients.edge.state()) && elsewhere(clients.service.state());
    let end = Instant::now() + PATIENCE;
    while !moved(&clients) {
        assert!(Instant::now() < end, "the edge and the service never moved");
        // The clients that cannot move are served all the time.
        known_path(&mut clients).await;
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(clients.edge.id(), id, "it keeps its id");
    callable(&far, id).await;
    // The bare edge is hidden like its node, which still serves it.
    bed.all_show(&[2, 3], "edges", 1).await;
    let hidden = far.call_within(clients.bare_edge.welcome.id, "x", "", PATIENCE).await.unwrap_err();
    assert_eq!(hidden.kind(), Kind::NoEdge, "{hidden}");
    known_path(&mut clients).await;
    assert!(!is_ready(bed, 1).await);

    bed.net().heal();
    bed.cluster.wait_ready(PATIENCE).await.unwrap();
    // Edges: the one that moved, and the bare one, revived. Services: far, the one that moved, and the bare one.
    bed.all_show(&[1, 2, 3], "edges", 2).await;
    bed.all_show(&[1, 2, 3], "services", 3).await;
    callable(&far, id).await;
    let bare = clients.bare_edge.welcome.id;
    let call = tokio::spawn(async move { far.call_within(bare, "x", "again", PATIENCE).await });
    let called = clients.bare_edge.called().await;
    clients.bare_edge.reply(called).await;
    assert_eq!(call.await.unwrap().unwrap(), "again");
    known_path(&mut clients).await;
    bed.edge(1).await;
}

/// No node has a quorum.
async fn alone(bed: &Bed, clients: &mut Clients) {
    let goaway = clients.bare_edge.goaway().await;
    assert_eq!(goaway.code, Code::ISOLATED);
    assert_eq!(goaway.peers.len(), 2, "the goaway names the other nodes: {goaway:?}");
    assert_eq!(clients.bare_service.goaway().await.code, Code::ISOLATED);
    assert!(!is_ready(bed, 1).await);
    for _ in 0..100 {
        assert_eq!(clients.edge.call("echo", "there").await.unwrap(), "there");
        let back = clients.service.call(clients.edge.id(), "echo", "back").await;
        assert_eq!(back.unwrap(), "back");
        known_path(clients).await;
    }
    // What needs the quorum: a miss, a registration, an admission.
    let (miss, named, newcomer) = tokio::join!(
        clients.edge.call_within("nothing", "", PATIENCE),
        clients.service.register("more", |call| async move { Ok(call.body) }),
        async { Bare::connect(&bed.edges(1), Hello::default()).await.err().flatten() },
    );
    let miss = miss.unwrap_err();
    assert_eq!((miss.kind(), miss.may_have_run()), (Kind::NoQuorum, false), "{miss}");
    let refused = named.unwrap_err();
    assert_eq!(refused.kind(), Kind::NoQuorum, "{refused}");
    assert_eq!(newcomer.expect("refused").code, Code::NO_QUORUM);
}

async fn is_ready(bed: &Bed, node: usize) -> bool {
    let metrics = bed.cluster.node(node).addresses().metrics;
    limes_node::dev::get(&metrics, "/readyz", PATIENCE).await.is_ok_and(|answer| answer.status == 200)
}

/// The bare edge calls the bare service.
async fn known_path(clients: &mut Clients) {
    let serve = async {
        let call = clients.bare_service.called().await;
        clients.bare_service.reply(call).await;
    };
    let (answer, ()) = tokio::join!(clients.bare_edge.call(0, "bare", Duration::from_secs(60)), serve);
    assert!(matches!(answer, Frame::Reply(_)), "{answer:?}");
}
