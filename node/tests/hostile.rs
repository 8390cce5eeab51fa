//! Peers that do not keep to the protocol: their connection ends with a line in the log, all others
//! go on. And one that would never give up by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use limes_wire::Code;
use limes_wire::frame::Frame;
use support::bare::Bare;
use support::{Bed, PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sends bytes and waits until the node has closed the connection; gives what it said.
async fn send(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut said)).await.expect("the node closes the connection").ok();
    said
}

/// Bytes from a seed (SplitMix64), the same in each run.
fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed;
    let mut next = || {
        x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
        limes_routing::pick::mix(x) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_the_rules_ends_alone() {
    let bed = Bed::start_with(1, |config| {
        support::patient(config);
        config.limits.handshake = Duration::from_secs(3);
        config.limits.stall = Duration::from_secs(2);
    })
    .await;
    tokio::join!(
        strange_bytes_end_only_their_own_connection(&bed),
        a_handshake_that_never_ends_is_ended(&bed),
        a_peer_that_never_reads_is_cut_off_and_others_go_on(&bed),
        a_deadline_is_the_nodes_own(&bed),
    );
    assert!(!bed.log(1).contains("panicked"), "{}", bed.log(1));
}

async fn strange_bytes_end_only_their_own_connection(bed: &Bed) {
    let edge = bed.edge(1).await;
    let service = bed.service(1, "greeter").await;
    let magic = b"LIMES\r\n1";
    for port in [bed.edges(1), bed.services(1)] {
        for seed in 0..20 {
            send(&port, &random(seed, 64)).await;
            send(&port, &[&magic[..], &random(seed, 200)].concat()).await;
        }
        // A hello whose body claims 4 GiB.
        let said = send(&port, &[&magic[..], &[1, 0, 0, 10, 0xff, 0xff, 0xff, 0xff]].concat()).await;
        assert!(!said.is_empty(), "it is told why");
        // A stream before the handshake.
        send(&port, &[&magic[..], &[0; 12]].concat()).await;
        // geminio's first bytes, and a web browser's.
        send(&port, &[1, 1, 0, 0, 0, 0, 0, 0]).await;
        send(&port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    }
    assert_eq!(edge.call("echo", "alive").await.unwrap(), "alive");
    assert_eq!(service.call(edge.id(), "echo", "alive").await.unwrap(), "alive");
    let log = bed.log(1);
    assert!(log.contains("the first bytes are not those of the limes protocol"), "{log}");
    assert!(log.contains("is over the limit"), "{log}");
}

async fn a_handshake_that_never_ends_is_ended(bed: &Bed) {
    let said = send(&bed.edges(1), b"LIMES\r\n").await;
    assert!(!said.is_empty(), "it is told why");
    assert!(bed.log(1).contains("no handshake within"), "{}", bed.log(1));
}

async fn a_peer_that_never_reads_is_cut_off_and_others_go_on(bed: &Bed) {
    let edge = bed.edge(1).await;
    let service = bed.service(1, "greeter").await;
    // Raw: a hello, then calls of a method that answers with as much, and never a read.
    use limes_wire::conn::MAGIC;
    use limes_wire::frame::{Call, Hello};
    let mut bytes = bytes::BytesMut::from(&MAGIC[..]);
    Frame::Hello(Hello::default()).encode(&mut bytes);
    let mut socket = TcpStream::connect(bed.edges(1)).await.unwrap();
    socket.write_all(&bytes).await.unwrap();
    // The welcome must be there before anything else is sent.
    socket.readable().await.unwrap();
    let body = bytes::Bytes::from(vec![1; 1 << 20]);
    let flood = async {
        for id in 1.. {
            let mut head = bytes::BytesMut::new();
            let call = Call { id, deadline: PATIENCE, peer: 0, method: "echo".into(), body: body.clone() };
            let body = Frame::Call(call).encode(&mut head);
            if socket.write_all(&head).await.is_err() || socket.write_all(&body).await.is_err() {
                return;
            }
        }
    };
    let others = async {
        for _ in 0..50 {
            assert_eq!(edge.call("echo", "alive").await.unwrap(), "alive");
        }
    };
    let (ended, ()) = tokio::join!(timeout(PATIENCE, flood), others);
    ended.expect("it is cut off");
    let most = support::memory_kb(bed.cluster.node(1).pid().unwrap(), "VmHWM:");
    assert!(most < 256 << 10, "what a peer does not take was held in memory: {most} KiB");
    until("it is cut off", || async { bed.log(1).contains("the peer has taken nothing").then_some(()) })
        .await;
    assert_eq!(service.call(edge.id(), "echo", "alive").await.unwrap(), "alive");
}

/// The SDK keeps its callers' deadlines too; a bare client shows that the node does.
async fn a_deadline_is_the_nodes_own(bed: &Bed) {
    let service = bed.service(1, "sleeper").await;
    service.register("sleep", |_| std::future::pending()).await.unwrap();
    let mut bare = Bare::edge(&bed.edges(1)).await;
    assert!(bare.welcome.incarnation > (0, 0), "{:?}", bare.welcome);
    let answer = bare.call(0, "sleep", Duration::from_millis(300)).await;
    let Frame::Error(error) = answer else { panic!("{answer:?}") };
    assert_eq!(error.code, Code::TIMEOUT);
    let addr = bed.cluster.node(1).addresses().metrics;
    let metrics = limes_node::dev::get(&addr, "/metrics", PATIENCE).await.unwrap().body;
    assert!(metrics.contains("limes_requests_total{kind=\"call\",outcome=\"TIMEOUT\"} 1\n"), "{metrics}");
    assert!(metrics.contains("limes_raft_leader 1\n"), "{metrics}");
}
