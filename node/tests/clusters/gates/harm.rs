//! Peers that do not keep to the rules, on every port, while honest calls go on: their connection ends
//! with a counter and a line in the log, and nobody else notices.

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

use super::nuisances::{self, Nuisance};
use super::raw::{Raw, call, encode, metric};
use crate::support::bare::Bare;
use crate::support::{self, Bed, PATIENCE, until};

/// Half-open handshakes at once, where a part of them may be; fewer where the process may not open so many
/// files.
const HALF_OPEN: usize = 1_200;
const HANDSHAKES: usize = 300;
/// As many as the long test has.
const MANY_HALF_OPEN: usize = 10_000;
/// Connections that say nothing on a port where 1,024 may be.
const SILENT: usize = 1_100;
/// By how much all of it may make the node grow.
const BOUND_KB: u64 = 512 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_mean_harm_harm_nobody() {
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
        strange_bytes_end_their_own_connection(&bed),
        a_byte_now_and_then_is_too_slow_on_every_port(&bed),
        silent_ones_make_room_for_operators(&bed),
        operators_that_never_read_are_cut_off(&bed),
        a_peer_that_never_reads_is_cut_off(&bed),
        a_deadline_is_the_nodes_own(&bed),
        requests_that_say_too_much(&bed),
    );
    traffic.flows().await;
    for nuisance in nuisances::all() {
        annoy(&bed, nuisance).await;
        traffic.flows().await;
    }
    registrations(&bed).await;
    one_that_is_fast_beside_one_that_is_not(&bed).await;
    traffic.flows().await;
    traffic.stop().await;

    let most = support::memory_kb(pid(&bed), "VmHWM:");
    println!("the node grew from {before} to {most} KiB at most");
    assert!(most.saturating_sub(before) < BOUND_KB, "{before} to {most} KiB");
    each_is_counted_and_has_a_line(&bed).await;
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

async fn each_is_counted_and_has_a_line(bed: &Bed) {
    let log = bed.log(1);
    assert!(!log.contains("panicked"), "{log}");
    let warnings = || log.lines().filter(|line| line.contains("WARN"));
    for (port, _) in ports(bed) {
        for reason in ["PROTOCOL", "HANDSHAKE_TIMEOUT", "LIMIT"] {
            if (port, reason) == ("mesh", "LIMIT") {
                // Where the machine is slow, the silent are over their time before they are too many.
                continue;
            }
            let series = format!("limes_connections_cut_total{{port=\"{port}\",reason=\"{reason}\"}}");
            assert!(metric(bed, &series).await >= 1, "{series} counts nothing");
            let says = |line: &str| line.contains(&format!("port=\"{port}\"")) && line.contains(reason);
            assert!(warnings().any(says), "no line for {reason} at {port} in {log}");
        }
    }
    let lines = warnings().count();
    assert!(lines < 300, "{lines} warnings");
}

/// Calls both ways, without a pause, until it is told to stop; each must succeed.
struct Traffic {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    async fn start(bed: &Bed) -> Traffic {
        let (edge, service) = (bed.edge(1).await, bed.service(1, "honest").await);
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..2).map(|side| {
            let (edge, service, stop, count) = (edge.clone(), service.clone(), stop.clone(), count.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let result = match side {
                        0 => edge.call_within("echo", "x", PATIENCE).await,
                        _ => service.call_within(edge.id(), "echo", "x", PATIENCE).await,
                    };
                    assert_eq!(result.unwrap_or_else(|error| panic!("an honest call fails: {error}")), "x");
                    count.fetch_add(1, Ordering::Relaxed);
                    // Others of this small machine have something to do, too.
                    sleep(Duration::from_millis(1)).await;
                }
            })
        });
        Traffic { tasks: tasks.collect(), stop, count }
    }

    /// Some more calls succeed.
    async fn flows(&self) {
        let goal = self.count.load(Ordering::Relaxed) + 10;
        until("honest calls flow", || async {
            let broken = self.tasks.iter().any(tokio::task::JoinHandle::is_finished);
            (broken || self.count.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("honest calls go on");
        }
    }
}

/// Connects so often, in a thread of its own, and says something each time.
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
    // Some say a part of a hello.
    let half = crowd(&bed.edges(1), count, |n| MAGIC[..if n % 3 == 0 { n % 8 } else { 0 }].to_vec()).await;
    println!("{} handshakes are half open", half.len());
    traffic.flows().await;
    // A newcomer is served although so many stand before the door.
    let newcomer = bed.edge(1).await;
    assert_eq!(newcomer.call("echo", "in").await.unwrap(), "in");
    newcomer.close().await;
}

/// Sends bytes and waits until the node has closed the connection; gives what it said.
async fn send(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // It may be closed before it has taken everything.
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

async fn strange_bytes_end_their_own_connection(bed: &Bed) {
    let stranger = Hello { role: Role::Node, meta: vec![7; 32].into(), ..Hello::default() };
    for (_, address) in ports(bed) {
        for seed in 0..10 {
            send(&address, &[&[200][..], &random(seed, 64)].concat()).await;
            send(&address, &[&MAGIC[..], &[100], &random(seed, 200)].concat()).await;
        }
        // A hello whose body claims 4 GiB; a stream before the handshake; another protocol's beginning.
        send(&address, &[&MAGIC[..], &[1, 0, 0, 10, 0xff, 0xff, 0xff, 0xff]].concat()).await;
        send(&address, &[&MAGIC[..], &[0; 12]].concat()).await;
        send(&address, &[1, 1, 0, 0, 0, 0, 0, 0]).await;
        send(&address, &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]).await;
        // A request of the web with a head without end; HTTP/2 with nonsense behind its beginning.
        let endless = [&b"GET / HTTP/1.1\r\nX: "[..], &vec![b'a'; 1 << 20]].concat();
        send(&address, &endless).await;
        send(&address, &[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xff; 100]].concat()).await;
        // A node of nowhere.
        send(&address, &[&MAGIC[..], &encode(Frame::Hello(stranger.clone()))].concat()).await;
    }
    let said = send(&bed.edges(1), &[&MAGIC[..], &[1, 0, 0, 10, 0xff, 0xff, 0xff, 0xff]].concat()).await;
    assert!(String::from_utf8_lossy(&said).contains("is over the limit"), "it is told why: {said:?}");
}

/// What never becomes a hello or a request is ended when the time for it is over.
async fn a_byte_now_and_then_is_too_slow_on_every_port(bed: &Bed) {
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
            assert!(began.elapsed() < PATIENCE, "{port} waits for a peer that dawdles");
        }
    });
    futures::future::join_all(slow).await;
}

/// The ports of operators share their code: one of them shows it.
async fn silent_ones_make_room_for_operators(bed: &Bed) {
    let control = bed.cluster.node(1).addresses().control.to_string();
    let _silent = crowd(&control, SILENT, |_| Vec::new()).await;
    let answer = limes_node::dev::get(&control, "/healthz", PATIENCE).await.unwrap();
    assert_ne!(answer.status, 503);
}

/// Requests one behind the other, and no answer is ever read.
async fn operators_that_never_read_are_cut_off(bed: &Bed) {
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let flood = ports(bed).into_iter().skip(3).map(|(port, address)| {
        let request = &request;
        async move {
            let socket = TcpSocket::new_v4().unwrap();
            // So that its answers wait on the other side.
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

/// Requests of HTTP/2 that are never finished may be few, and small.
async fn requests_that_say_too_much(bed: &Bed) {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // A message of 4 MiB to a service of gRPC, of which nothing comes (RFC 7541, appendix A, for the numbers).
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
        assert_eq!(answer[0], 0x88, "status 200, which is gRPC's for any error, not that the time was up");
    }
    // Where nodes talk to each other, they have few requests at once.
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
    timeout(PATIENCE, read).await.expect("no such frame comes")
}

/// It calls a method that answers with as much, and reads nothing.
async fn a_peer_that_never_reads_is_cut_off(bed: &Bed) {
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
    timeout(PATIENCE, futures::future::join_all(flood)).await.expect("they are cut off");
    until("there is a line of it", || async { bed.log(1).contains("has taken nothing").then_some(()) }).await;
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
    assert!(metric(bed, "limes_requests_total{kind=\"call\",outcome=\"TIMEOUT\"}").await >= 1);
    assert_eq!(metric(bed, "limes_raft_leader").await, 1);
}

/// Whoever is not cut off must still be served.
async fn annoy(bed: &Bed, nuisance: Nuisance) {
    let Nuisance { what, bytes, is_cut } = nuisance;
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
    assert_ne!(served, is_cut, "{what}: served is {served}");
}

/// A service that registers without end and never reads.
async fn registrations(bed: &Bed) {
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
    // The cluster still takes an honest registration.
    let honest = bed.service(1, "after the flood").await;
    let refused = honest.call_within(77, "echo", "", PATIENCE).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::NoEdge, "{refused}");
    honest.close().await;
}

/// A valid edge that sends as fast as it is taken does not keep another from being served.
async fn one_that_is_fast_beside_one_that_is_not(bed: &Bed) {
    let (fast, slow) = (bed.edge(1).await, bed.edge(1).await);
    let stop = Arc::<AtomicBool>::default();
    let load: Vec<_> = (0..256)
        .map(|_| {
            let (fast, stop) = (fast.clone(), stop.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    fast.call_within("echo", vec![7; 64], PATIENCE).await.unwrap();
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        assert_eq!(slow.call_within("echo", "seldom", PATIENCE).await.unwrap(), "seldom");
        longest = longest.max(began.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for load in load {
        calls += load.await.unwrap();
    }
    println!("beside {calls} calls of a fast edge, ten of a slow one took {longest:?} at most");
    assert!(longest < Duration::from_secs(10), "{longest:?}");
}
