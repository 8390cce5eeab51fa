//! Each node killed in turn, and a client that never gives up by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use bytes::BytesMut;
use limes_node::api::v1::limes_client::LimesClient;
use limes_node::api::v1::{StatusReply, StatusRequest};
use limes_wire::Code;
use limes_wire::conn::MAGIC;
use limes_wire::frame::{Call, Frame, HEADER, Header, Hello};
use support::{Bed, PATIENCE, callable, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn status(bed: &Bed, node: usize) -> Option<StatusReply> {
    let addr = bed.cluster.node(node).addresses().control;
    let mut client = LimesClient::connect(format!("http://{addr}")).await.ok()?;
    Some(client.status(StatusRequest { local: false }).await.ok()?.into_inner())
}

#[tokio::test]
async fn each_node_may_be_killed_and_comes_back() {
    let bed = Bed::start(3).await;
    let before = until("a status", || status(&bed, 1)).await;
    for killed in 1..=3 {
        let mut others = (1..=3).filter(|node| *node != killed);
        let (a, b) = (others.next().unwrap(), others.next().unwrap());
        let edge = bed.edge(a).await;
        let service = bed.service(b, "greeter").await;
        bed.cluster.kill9(killed).await.unwrap();
        // A known path needs no leader: none of these fails.
        for _ in 0..200 {
            assert_eq!(edge.call_within("echo", "up", PATIENCE).await.unwrap(), "up");
            assert_eq!(service.call_within(edge.id(), "echo", "down", PATIENCE).await.unwrap(), "down");
        }
        // What needs agreement works again, whoever leads now.
        let newcomer = bed.edge(b).await;
        callable(&service, newcomer.id()).await;
        bed.cluster.restart(killed).unwrap();
        bed.cluster.wait_ready(PATIENCE).await.unwrap();
        edge.close().await;
        newcomer.close().await;
        service.close().await;
    }
    let after = until("a status", || status(&bed, 3)).await;
    assert_eq!(after.cluster, before.cluster);
    let members = |status: &StatusReply| {
        status.nodes.iter().map(|node| (node.name.clone(), node.number, node.voter)).collect::<Vec<_>>()
    };
    assert_eq!(members(&after), members(&before));
    assert!(after.nodes.iter().all(|node| node.up), "{after:?}");
}

/// One frame from a socket.
async fn read(socket: &mut TcpStream) -> Frame {
    loop {
        let mut header = [0; HEADER];
        socket.read_exact(&mut header).await.unwrap();
        let header = Header::decode(header);
        let mut rest = vec![0; header.frame_len() - HEADER];
        socket.read_exact(&mut rest).await.unwrap();
        let body = rest.split_off(usize::from(header.head));
        if let Some(frame) = Frame::decode(header, rest.into(), body.into()).unwrap() {
            return frame;
        }
    }
}

/// The SDK keeps its callers' deadlines too; a bare client shows that the node does.
#[tokio::test]
async fn a_deadline_is_the_nodes_own() {
    let bed = Bed::start(1).await;
    let service = bed.service(1, "sleeper").await;
    service.register("sleep", |_| std::future::pending()).await.unwrap();
    let mut socket = TcpStream::connect(bed.edges(1)).await.unwrap();
    let mut bytes = BytesMut::from(&MAGIC[..]);
    Frame::Hello(Hello::default()).encode(&mut bytes);
    socket.write_all(&bytes).await.unwrap();
    let welcome = timeout(PATIENCE, read(&mut socket)).await.expect("a welcome");
    let Frame::Welcome(welcome) = welcome else { panic!("{welcome:?}") };
    assert!(welcome.incarnation > (0, 0), "{welcome:?}");
    let deadline = Duration::from_millis(300);
    let call = Call { id: 7, deadline, peer: 0, method: "sleep".into(), body: Default::default() };
    bytes.clear();
    Frame::Call(call).encode(&mut bytes);
    socket.write_all(&bytes).await.unwrap();
    let answer = timeout(PATIENCE, read(&mut socket)).await.expect("an answer");
    let Frame::Error(error) = answer else { panic!("{answer:?}") };
    assert_eq!((error.id, error.code), (7, Code::TIMEOUT));
    let addr = bed.cluster.node(1).addresses().metrics;
    let metrics = limes_node::dev::get(&addr, "/metrics", PATIENCE).await.unwrap().body;
    assert!(metrics.contains("limes_requests_total{kind=\"call\",outcome=\"TIMEOUT\"} 1\n"), "{metrics}");
    assert!(metrics.contains("limes_raft_leader 1\n"), "{metrics}");
}
