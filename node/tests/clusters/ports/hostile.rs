//! Hostile peers on every port: the node closes their connections, counts and logs that; others are not affected.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_sdk::Kind;
use limes_wire::conn::MAGIC;
use limes_wire::frame::{Frame, Hello, Names, Role};
use limes_wire::{Code, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::raw::{Raw, call, encode, metric};
use super::traffic::Traffic;
use super::violations::{self, Violation};
use crate::support::bare::Bare;
use crate::support::{self, Bed, PATIENCE, until};

/// Half-open handshakes at once, more than `HANDSHAKES` allows; fewer where the process may not open so many files.
const HALF_OPEN: usize = 1_200;
const HANDSHAKES: usize = 300;
/// Half-open handshakes of the long test.
const MANY_HALF_OPEN: usize = 10_000;
/// Silent connections on a port that allows 1,024.
const SILENT: usize = 1_100;
/// Calls that a fast edge keeps in flight, and how many rounds of them may pass while a slow call waits.
const IN_FLIGHT: u64 = 256;
const TURNS: u64 = 64;
/// By how much the memory of the node may grow in all.
const BOUND_KB: u64 = 512 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn hostile_peers_do_not_affect_others() {
    let bed = Bed::start_with(1, |config| {
        support::patient(config);
        config.limits.handshakes = HANDSHAKES;
        config.limits.handshake = Duration::from_secs(3);
        config.limits.stall = Duration::from_secs(2);
    })
    .await;
    let traffic = Traffic::start(&bed).await;
    let before = support::memory_kb(pid(&bed), "VmRSS:");
    half_open(&bed, &traffic, HALF_OPEN).await;
    tokio::join!(
        invalid_bytes_close_only_their_own_connection(&bed),
        slow_handshakes_are_closed_on_every_port(&bed),
        silent_connections_do_not_lock_out_operators(&bed),
        operators_that_never_read_are_closed(&bed),
        clients_that_never_read_are_closed(&bed),
        the_node_enforces_deadlines(&bed),
        unfinished_http2_requests_are_limited(&bed),
    );
    traffic.flows().await;
    for violation in violations::all() {
        violate(&bed, violation).await;
        traffic.flows().await;
    }
    a_flood_of_registrations_does_not_block_the_cluster(&bed).await;
    a_fast_edge_does_not_starve_another(&bed).await;
    traffic.flows().await;
    traffic.stop().await;

    let most = support::memory_kb(pid(&bed), "VmHWM:");
    println!("the node grew from {before} to {most} KiB at most");
    assert!(most.saturating_sub(before) < BOUND_KB, "{before} to {most} KiB");
    closed_connections_are_counted_and_logged(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute where the machine is busy: cargo test -p limes-node --test clusters ten_thousand -- --ignored"]
async fn ten_thousand_half_open_handshakes() {
    let bed = Bed::start(1).await;
    let traffic = Traffic::start(&bed).await;
    half_open(&bed, &traffic, MANY_HALF_OPEN).await;
    traffic.stop().await;
    let most = support::memory_kb(pid(&bed), "VmHWM:");
    assert!(most < BOUND_KB, "{most} KiB");
}

fn pid(bed: &Bed) -> u32 {
    bed.cluster.node(1).pid().unwrap()
}

/// The ports by their names in the metrics.
fn ports(bed: &Bed) -> [(&'static str, String); 6] {
    let addresses = bed.cluster.node(1).addresses();
    [
        ("edges", addresses.edges.to_string()),
        ("services", addresses.services.to_string()),
        ("mesh", addresses.mesh.to_string()),
        ("control", addresses.control.to_string()),
        ("discovery", addresses.discovery.to_string()),
        ("metrics", addresses.metrics.to_string()),
    ]
}

async fn closed_connections_are_counted_and_logged(bed: &Bed) {
    for (port, _) in ports(bed) {
        for reason in ["PROTOCOL", "HANDSHAKE_TIMEOUT", "LIMIT"] {
            if (port, reason) == ("mesh", "LIMIT") {
                // On a slow machine silent connections time out before they exceed the limit.
                continue;
            }
            let series = format!("limes_connections_cut_total{{port=\"{port}\",reason=\"{reason}\"}}");
            let says = |line: &str| {
                line.contains("WARN") && line.contains(&format!("port=\"{port}\"")) && line.contains(reason)
            };
            // The last ones may still be within their handshake time.
            until(&format!("{series} and its log line"), async || {
                (metric(bed, &series).await >= 1 && bed.log(1).lines().any(says)).then_some(())
            })
            .await;
        }
    }
    let log = bed.log(1);
    assert!(!log.contains("panicked"), "{log}");
    let warnings = || log.lines().filter(|line| line.contains("WARN"));
    let lines = warnings().count();
    assert!(lines < 300, "{lines} warnings");
}

/// Connects `count` times, in a thread of its own, and sends some bytes on each connection.
async fn crowd(address: &str, count: usize, say: fn(usize) -> Vec<u8>) -> Vec<std::net::TcpStream> {
    let address = address.to_owned();
    let connect = move || {
        let mut all = Vec::new();
        for n in 0..count {
            let Ok(mut socket) = std::net::TcpStream::connect(&*address) else { break };
            // It may be closed already.
            let _ = socket.write_all(&say(n));
            all.push(socket);
        }
        all
    };
    tokio::task::spawn_blocking(connect).await.unwrap()
}

async fn half_open(bed: &Bed, traffic: &Traffic, count: usize) {
    // Some send a part of a hello.
    let half = crowd(&bed.edges(1), count, |n| MAGIC[..if n % 3 == 0 { n % 8 } else { 0 }].to_vec()).await;
    println!("{} handshakes are half open", half.len());
    traffic.flows().await;
    // A new edge is served nevertheless.
    let newcomer = bed.edge(1).await;
    assert_eq!(newcomer.call("echo", "in").await.unwrap(), "in");
    newcomer.close().await;
}

/// Sends bytes and waits until the node has closed the connection; returns what it sent.
async fn send(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The node may close it before it has read everything.
    let _ = socket.write_all(bytes).await;
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

async fn invalid_bytes_close_only_their_own_connection(bed: &Bed) {
    let stranger = Hello { role: Role::Node, meta: vec![7; 32].into(), ..Hello::default() };
    for (_, address) in ports(bed) {
        for seed in 0..10 {
            send(&address, &[&[200][..], &random(seed, 64)].concat()).await;
            send(&address, &[&MAGIC[..], &[100], &random(seed, 200)].concat()).await;
        }
        // A hello whose body claims 4 GiB, a stream before the handshake, and the first bytes of other protocols.
        send(&address, &[&MAGIC[..], &[1, 0, 0, 10, 0xff, 0xff, 0xff, 0xff]].concat()).await;
        send(&address, &[&MAGIC[..], &[0; 12]].concat()).await;
        send(&address, &[1, 1, 0, 0, 0, 0, 0, 0]).await;
        send(&address, &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]).await;
        // An HTTP/1.1 request with an endless header, and HTTP/2 with invalid frames.
        let endless = [&b"GET / HTTP/1.1\r\nX: "[..], &vec![b'a'; 1 << 20]].concat();
        send(&address, &endless).await;
        send(&address, &[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xff; 100]].concat()).await;
        // A node of an unknown cluster.
        send(&address, &[&MAGIC[..], &encode(Frame::Hello(Box::new(stranger.clone())))].concat()).await;
    }
    let said = send(&bed.edges(1), &[&MAGIC[..], &[1, 0, 0, 10, 0xff, 0xff, 0xff, 0xff]].concat()).await;
    assert!(String::from_utf8_lossy(&said).contains("is over the limit"), "the reason is sent: {said:?}");
}

/// A hello or request that never becomes whole is ended when the time for it is over.
async fn slow_handshakes_are_closed_on_every_port(bed: &Bed) {
    let slow = ports(bed).map(|(port, address)| async move {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let bytes: &[u8] = if matches!(port, "edges" | "services" | "mesh") {
            b"LIMES\r\n1\x01\0\0\x15"
        } else {
            b"GET /healthz HTTP/1.1\r\nHost: "
        };
        let began = Instant::now();
        for byte in bytes.iter().chain(std::iter::repeat(&b'x')) {
            if socket.write_all(&[*byte]).await.is_err() {
                return;
            }
            if timeout(Duration::from_millis(500), socket.read(&mut [0; 64]))
                .await
                .is_ok_and(|r| !matches!(r, Ok(1..)))
            {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{port} waits for a handshake without end");
        }
    });
    futures::future::join_all(slow).await;
}

/// The ports of operators share their code, so one of them is tested.
async fn silent_connections_do_not_lock_out_operators(bed: &Bed) {
    let control = bed.cluster.node(1).addresses().control.to_string();
    let _silent = crowd(&control, SILENT, |_| Vec::new()).await;
    let answer = limes_node::dev::get(&control, "/healthz", PATIENCE).await.unwrap();
    assert_ne!(answer.status, 503);
}

/// They send requests without reading an answer.
async fn operators_that_never_read_are_closed(bed: &Bed) {
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let flood = ports(bed).into_iter().skip(3).map(|(port, address)| {
        let request = &request;
        async move {
            let socket = TcpSocket::new_v4().unwrap();
            // A small buffer, so that the answers queue in the node.
            socket.set_recv_buffer_size(4 << 10).unwrap();
            let mut socket = socket.connect(address.parse().unwrap()).await.unwrap();
            let flood = async { while socket.write_all(request).await.is_ok() {} };
            timeout(PATIENCE, flood)
                .await
                .unwrap_or_else(|_| panic!("{port} serves a peer that never reads"));
        }
    });
    futures::future::join_all(flood).await;
}

/// Unfinished HTTP/2 requests are limited in number and size.
async fn unfinished_http2_requests_are_limited(bed: &Bed) {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // A gRPC message that claims 4 MiB and has no bytes (RFC 7541, appendix A, has the numbers).
    let path = b"/grpc.health.v1.Health/Check";
    let head =
        [&[0x83, 0x86, 0x04, path.len() as u8][..], path, b"\x01\x01x\x0f\x10\x10application/grpc"].concat();
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    let ask = [frame(1, 4, 1, &head), frame(0, 0, 1, &[0, 0, 64, 0, 0])].concat();
    let addresses = bed.cluster.node(1).addresses();
    for address in [&addresses.control, &addresses.discovery] {
        let mut socket = TcpStream::connect(&**address).await.unwrap();
        socket.write_all(&[&hello[..], &ask].concat()).await.unwrap();
        let answer = payload(&mut socket, 1).await;
        assert_eq!(answer[0], 0x88, "status 200, as for every gRPC error, instead of a timeout");
    }
    // The port for nodes allows few concurrent requests.
    let mut socket = TcpStream::connect(&*addresses.mesh).await.unwrap();
    socket.write_all(&hello).await.unwrap();
    let settings = payload(&mut socket, 4).await;
    let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("a limit of streams");
    assert_eq!(streams[2..], [0, 0, 0, 64]);
}

/// The payload of the next frame of HTTP/2 of this type.
async fn payload(socket: &mut TcpStream, wanted: u8) -> Vec<u8> {
    let read = async {
        loop {
            let mut head = [0; 9];
            socket.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            socket.read_exact(&mut payload).await.unwrap();
            if head[3] == wanted && !payload.is_empty() {
                return payload;
            }
        }
    };
    timeout(PATIENCE, read).await.expect("the frame arrives")
}

/// They call a method that answers with the same bytes, and read nothing.
async fn clients_that_never_read_are_closed(bed: &Bed) {
    let flood =
        [(Role::Edge, bed.edges(1)), (Role::Service, bed.services(1))].map(|(role, address)| async move {
            let hello = Hello { role, name: "deaf".into(), ..Hello::default() };
            let mut raw = Raw::connect(&address, hello).await;
            let Some(Event::Welcome(_)) = raw.next().await else { panic!("not welcome") };
            let edge = bed.edge(1).await;
            let peer = if role == Role::Service { edge.id() } else { 0 };
            let body = Bytes::from(vec![1; 1 << 20]);
            for id in 1.. {
                let call = limes_wire::frame::Call {
                    id,
                    deadline: PATIENCE,
                    peer,
                    method: "echo".into(),
                    body: body.clone(),
                };
                if raw.socket.write_all(&encode(Frame::Call(call))).await.is_err() {
                    return;
                }
            }
        });
    timeout(PATIENCE, futures::future::join_all(flood)).await.expect("the node closes them");
    until("the node logs it", || async { bed.log(1).contains("has taken nothing").then_some(()) }).await;
}

/// A bare client shows it, because the SDK enforces deadlines itself.
async fn the_node_enforces_deadlines(bed: &Bed) {
    let service = bed.service(1, "sleeper").await;
    service.register("sleep", |_| std::future::pending()).await.unwrap();
    let mut bare = Bare::edge(&bed.edges(1)).await;
    assert!(bare.welcome.incarnation > (0, 0), "{:?}", bare.welcome);
    let answer = bare.call(0, "sleep", Duration::from_millis(300)).await;
    let Frame::Error(error) = answer else { panic!("{answer:?}") };
    assert_eq!(error.code, Code::TIMEOUT);
    assert!(metric(bed, "limes_requests_total{kind=\"call\",outcome=\"TIMEOUT\"}").await >= 1);
    assert_eq!(metric(bed, "limes_raft_leader").await, 1);
}

/// A connection that is not closed must still be served.
async fn violate(bed: &Bed, violation: Violation) {
    let Violation { what, bytes, closes } = violation;
    let (mut raw, _) = Raw::edge(&bed.edges(1)).await;
    for bytes in bytes.chunks(64 << 10) {
        if raw.socket.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = raw.socket.write_all(&encode(call(1, "echo", 1))).await;
    let mut served = false;
    while !served {
        let Some(event) = raw.next().await else { break };
        served = matches!(event, Event::Frame(Frame::Reply(_)));
    }
    assert_ne!(served, closes, "{what}: served is {served}");
}

/// A service registers without reading an answer.
async fn a_flood_of_registrations_does_not_block_the_cluster(bed: &Bed) {
    let mut service = Raw::service(&bed.services(1)).await;
    let flood = async {
        for id in 0..500u64 {
            let names = (0..1_000).map(|n| format!("{id}-{n}").as_str().into()).collect();
            if service.socket.write_all(&encode(Frame::Register(Names { id, names }))).await.is_err() {
                break;
            }
        }
    };
    let _ = timeout(Duration::from_millis(500), flood).await;
    drop(service);
    // The cluster still accepts another registration.
    let other = bed.service(1, "after the flood").await;
    let refused = other.call_within(77, "echo", "", PATIENCE).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::NoEdge, "{refused}");
    other.close().await;
}

/// An edge that calls as fast as it is served does not keep another edge from being served: while a call of
/// that edge waits, the fast one gets a limited number of answers, however slow the machine is.
async fn a_fast_edge_does_not_starve_another(bed: &Bed) {
    let (fast, slow) = (bed.edge(1).await, bed.edge(1).await);
    let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let load: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (fast, stop, answers) = (fast.clone(), stop.clone(), answers.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    fast.call_within("echo", vec![7; 64], PATIENCE).await.unwrap();
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut most = 0;
    for _ in 0..10 {
        sleep(Duration::from_millis(50)).await;
        let before = answers.load(Ordering::Relaxed);
        assert_eq!(slow.call_within("echo", "seldom", PATIENCE).await.unwrap(), "seldom");
        most = most.max(answers.load(Ordering::Relaxed) - before);
    }
    stop.store(true, Ordering::Relaxed);
    for load in load {
        load.await.unwrap();
    }
    println!("during a call of the slow edge, the fast one got {most} answers at most");
    assert!(most < IN_FLIGHT * TURNS, "{most} answers");
}
