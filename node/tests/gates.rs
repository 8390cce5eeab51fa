//! The ports of edges and services: TLS, limits, and peers that mean harm while others go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use limes_node::config::{Cap, CertPair, Mark, Size};
use limes_sdk::{Edge, Kind, Service, Tls};
use limes_wire::conn::MAGIC;
use limes_wire::frame::{Call, Frame, GoAway, Hello, Names, Ran, Role, Welcome};
use limes_wire::limits::Limits;
use limes_wire::{Code, Conn, Event};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use support::{Bed, PATIENCE, patient, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A peer that is as honest as its test wants.
struct Raw {
    socket: TcpStream,
    conn: Conn,
    input: BytesMut,
}

impl Raw {
    async fn connect(address: &str, hello: Hello) -> Raw {
        let socket = TcpStream::connect(address).await.unwrap();
        Raw { socket, conn: Conn::client(hello, Instant::now(), Limits::default()), input: BytesMut::new() }
    }

    /// Connects and is welcomed.
    async fn edge(address: &str) -> (Raw, Welcome) {
        let mut raw = Raw::connect(address, Hello::default()).await;
        match raw.next().await {
            Some(Event::Welcome(welcome)) => (raw, welcome),
            other => panic!("{other:?}"),
        }
    }

    async fn service(address: &str) -> Raw {
        let hello = Hello { role: Role::Service, name: "raw".into(), ..Hello::default() };
        let mut raw = Raw::connect(address, hello).await;
        assert!(matches!(raw.next().await, Some(Event::Welcome(_))));
        raw
    }

    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        let body = frame.encode(&mut bytes);
        bytes.extend_from_slice(&body);
        self.socket.write_all(&bytes).await.unwrap();
    }

    /// What comes next; nothing at the end.
    async fn next(&mut self) -> Option<Event> {
        timeout(PATIENCE, async {
            loop {
                let mut slices = [std::io::IoSlice::new(&[]); 8];
                let count = self.conn.chunks(&mut slices);
                let waiting: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                if !waiting.is_empty() {
                    self.socket.write_all(&waiting).await.ok()?;
                    self.conn.advance(waiting.len());
                }
                if let Some(event) = self.conn.next(Instant::now(), &mut self.input).unwrap() {
                    return Some(event);
                }
                if !matches!(self.socket.read_buf(&mut self.input).await, Ok(1..)) {
                    return None;
                }
            }
        })
        .await
        .expect("nothing comes in time")
    }

    async fn frame(&mut self) -> Frame {
        match self.next().await {
            Some(Event::Frame(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }

    /// Why the node closes.
    async fn farewell(&mut self) -> GoAway {
        loop {
            match self.next().await {
                Some(Event::GoAway(goaway)) => return goaway,
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    }
}

fn call(id: u64, method: &str, bytes: usize) -> Frame {
    let body = Bytes::from(vec![7; bytes]);
    Frame::Call(Call { id, deadline: PATIENCE, peer: 0, method: method.into(), body })
}

/// A figure of `/metrics`.
async fn metric(bed: &Bed, series: &str) -> u64 {
    let mut socket = TcpStream::connect(&*bed.cluster.node(1).addresses().metrics).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut text)).await.unwrap().unwrap();
    let line = text.lines().find(|line| line.starts_with(series) && line[series.len()..].starts_with(' '));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// A service whose "hang" never answers, and which holds what it is sent.
async fn hanging(bed: &Bed) -> Service {
    let service = bed.service(1, "hanging").await;
    let hang = |_| async {
        std::future::pending::<()>().await;
        Ok(Bytes::new())
    };
    service.register("hang", hang).await.unwrap();
    service
}

#[tokio::test]
async fn each_limit_is_reported_to_whoever_crosses_it() {
    let bed = Bed::start_with(1, |config| {
        patient(config);
        config.limits.calls = 4;
        config.limits.queued = Size::bytes(64 << 10);
        config.limits.body = Size::bytes(256 << 10);
        config.limits.streams = 2;
        config.limits.handshakes = 8;
        config.limits.per_address = Cap::At(20);
        config.limits.names = 100;
    })
    .await;
    let _service = hanging(&bed).await;
    let (mut raw, welcome) = Raw::edge(&bed.edges(1)).await;
    let told = (welcome.max_calls, welcome.max_queued, welcome.max_body, welcome.max_streams);
    assert_eq!(told, (4, 64 << 10, 256 << 10, 2), "the welcome names what a client must keep to");

    // Calls in flight.
    for id in 1..=5 {
        raw.send(call(id, "hang", 10)).await;
    }
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (5, Code::BUSY, Ran::No), "{error:?}");
    assert!(error.text.contains("limits.calls"), "{error:?}");
    // A number in use.
    raw.send(Frame::Cancel { id: 4 }).await;
    raw.send(call(1, "hang", 10)).await;
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (1, Code::PROTOCOL, Ran::No), "{error:?}");
    drop(raw);

    // Bytes in flight: the first may be larger than all of it, the next may not come on top.
    let (mut raw, _) = Raw::edge(&bed.edges(1)).await;
    raw.send(call(1, "hang", 100 << 10)).await;
    raw.send(call(2, "hang", 100)).await;
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (2, Code::BUSY, Ran::No), "{error:?}");
    assert!(error.text.contains("limits.queued"), "{error:?}");
    // A body, before a byte of it has come.
    raw.socket.write_all(&[0x10, 0, 0, 8, 0, 4, 0, 1]).await.unwrap();
    let goaway = raw.farewell().await;
    assert_eq!(goaway.code, Code::TOO_LARGE, "{goaway:?}");

    // Streams.
    let edge = bed.edge(1).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(edge.open_stream("hanging", "").await.unwrap());
    }
    assert!(edge.open_stream("hanging", "").await.is_err());
    drop(open);
    until("streams are free again", || async { edge.open_stream("hanging", "").await.ok() }).await;
    edge.close().await;

    // Names of one service.
    let mut service = Raw::service(&bed.services(1)).await;
    let names = |from: usize, to: usize| (from..to).map(|n| format!("m{n}").as_str().into()).collect();
    service.send(Frame::Register(Names { id: 1, names: names(0, 100) })).await;
    let Frame::Done(done) = service.frame().await else { panic!() };
    assert_eq!(done.code, Code::OK, "{done:?}");
    service.send(Frame::Subscribe(Names { id: 2, names: names(0, 1) })).await;
    let Frame::Done(done) = service.frame().await else { panic!() };
    assert!(done.code == Code::LIMIT && done.text.contains("limits.names"), "{done:?}");
    service.send(Frame::Withdraw(Names { id: 3, names: names(0, 50) })).await;
    assert!(matches!(service.frame().await, Frame::Done(done) if done.code == Code::OK));
    service.send(Frame::Register(Names { id: 4, names: names(0, 50) })).await;
    assert!(matches!(service.frame().await, Frame::Done(done) if done.code == Code::OK));

    // Handshakes at once: the oldest of those that say nothing makes room, and is told.
    let mut silent = Vec::new();
    for _ in 0..9 {
        silent.push(TcpStream::connect(bed.edges(1)).await.unwrap());
    }
    let mut said = Vec::new();
    timeout(PATIENCE, silent[0].read_to_end(&mut said)).await.expect("it is closed").unwrap();
    assert!(String::from_utf8_lossy(&said).contains("limits.handshakes"), "{said:?}");
    bed.edge(1).await.close().await;
    drop(silent);

    // Connections of one address.
    let mut held = Vec::new();
    let refused = loop {
        assert!(held.len() <= 20, "nobody is refused");
        let mut raw = Raw::connect(&bed.edges(1), Hello::default()).await;
        match raw.next().await {
            Some(Event::Welcome(_)) => held.push(raw),
            Some(Event::GoAway(goaway)) => break goaway,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused.code == Code::LIMIT && refused.text.contains("limits.per_address"), "{refused:?}");
    held.clear();
    bed.edge(1).await;
    assert!(metric(&bed, "limes_connections_turned_away_total").await >= 1);
    assert!(metric(&bed, "limes_connections_cut_total{reason=\"TOO_LARGE\"}").await >= 1);
}

#[tokio::test]
async fn a_node_that_is_full_says_so() {
    let bed = Bed::start_with(1, |config| {
        patient(config);
        config.limits.sessions = 14;
        config.limits.memory = Mark::At(Size::bytes(100 << 20));
    })
    .await;
    let _service = hanging(&bed).await;
    let mut raws = Vec::new();
    while raws.len() < 13 {
        raws.push(Raw::edge(&bed.edges(1)).await.0);
    }
    let mut more = Raw::connect(&bed.edges(1), Hello::default()).await;
    let goaway = more.farewell().await;
    assert!(goaway.code == Code::LIMIT && goaway.text.contains("limits.sessions"), "{goaway:?}");
    // Answers that nobody reads are held: 14 MiB of each, less what the sockets take.
    let mut asker = raws.pop().unwrap();
    let mut busy = None;
    for raw in &mut raws {
        for id in 1..=7 {
            raw.send(call(id, "echo", 2 << 20)).await;
        }
        sleep(Duration::from_millis(300)).await;
        asker.send(call(99, "echo", 10)).await;
        match asker.frame().await {
            Frame::Reply(_) => {}
            Frame::Error(error) => {
                busy = Some(error);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let error = busy.expect("memory is never over its mark");
    assert_eq!((error.code, error.ran), (Code::BUSY, Ran::No), "{error:?}");
    assert!(error.text.contains("limits.memory"), "{error:?}");
    assert!(bed.log(1).contains("memory is over limits.memory"));
    // Those that are there stay.
    asker.send(Frame::Cancel { id: 5 }).await;
    until("the node lives", || async { bed.cluster.node(1).status().await.map(|_| ()) }).await;
}

/// Certificates in a folder: an authority, two servers, a client.
struct Papers {
    dir: TempDir,
}

static PAPERS: LazyLock<Papers> = LazyLock::new(Papers::make);

impl Papers {
    fn make() -> Papers {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (file, name) in [("a", "a.example"), ("b", "b.example"), ("client", "client.example")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{file}.pem")), certificate.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{file}.key")), key.serialize_pem()).unwrap();
        }
        Papers { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pair(&self, name: &str) -> CertPair {
        CertPair { cert: self.file(&format!("{name}.pem")), key: self.file(&format!("{name}.key")) }
    }

    fn trusting(&self, name: &str) -> Tls {
        Tls::new().root_file(self.file("ca.pem")).unwrap().server_name(name)
    }
}

#[tokio::test]
async fn edges_and_services_speak_tls() {
    let bed = Bed::start_with(1, |config| {
        patient(config);
        let edges = &mut config.edgebound.listen.tls;
        edges.enable = true;
        edges.certs = vec![PAPERS.pair("a"), PAPERS.pair("b")];
        let services = &mut config.servicebound.listen.tls;
        (services.enable, services.mtls) = (true, true);
        services.certs = vec![PAPERS.pair("a")];
        services.ca_certs = vec![PAPERS.file("ca.pem")];
        config.limits.handshake = Duration::from_secs(4);
    })
    .await;
    let edge = |tls: Tls| {
        let edge = Edge::builder().address(bed.edges(1)).tls(tls).connect_timeout(Duration::from_secs(1));
        async move { edge.connect().await }
    };
    let service = |tls: Tls| {
        let service = Service::builder("safe").address(bed.services(1)).tls(tls);
        let service = service.connect_timeout(Duration::from_secs(1));
        async move { service.connect().await }
    };
    // Each name gets its own certificate.
    let a = edge(PAPERS.trusting("a.example")).await.unwrap();
    let b = edge(PAPERS.trusting("b.example")).await.unwrap();
    let error = edge(PAPERS.trusting("c.example")).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    let stranger = KeyPair::generate().unwrap();
    let other = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&stranger).unwrap();
    let error = edge(Tls::new().root_pem(other.pem()).unwrap().server_name("a.example")).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let gone = Tls::new().root_file("nowhere.pem").unwrap_err().to_string();
    assert!(gone.starts_with("nowhere.pem: "), "{gone}");

    // A service must show who it is.
    service(PAPERS.trusting("a.example")).await.unwrap_err();
    let files = PAPERS.pair("client");
    let shown = PAPERS.trusting("a.example").identity_files(files.cert, files.key).unwrap();
    let service = service(shown).await.unwrap();
    service.register("echo", |call| async move { Ok(call.body) }).await.unwrap();
    a.register("echo", |call| async move { Ok(call.body) });

    // Everything goes as in the clear.
    let large = Bytes::from((0..3_000_000u32).map(|n| (n / 7) as u8).collect::<Vec<u8>>());
    assert_eq!(a.call("echo", large.clone()).await.unwrap(), large);
    assert_eq!(b.call("echo", "b").await.unwrap(), "b");
    assert_eq!(service.call(a.id(), "echo", large.clone()).await.unwrap(), large);
    let mut near = a.open_stream("safe", "").await.unwrap();
    let mut far = service.accept_stream().await.unwrap();
    let mut got = Vec::new();
    let (sent, read) = tokio::join!(
        async {
            near.write_all(&large).await?;
            near.shutdown().await
        },
        timeout(PATIENCE, far.stream.read_to_end(&mut got)),
    );
    sent.unwrap();
    read.unwrap().unwrap();
    assert!(got == large, "{} of {} bytes came", got.len(), large.len());

    // Whoever speaks in the clear, says nothing, or breaks off is closed; others go on.
    let mut plain = Raw::connect(&bed.edges(1), Hello::default()).await;
    plain.socket.write_all(MAGIC).await.unwrap();
    let mut said = Vec::new();
    timeout(PATIENCE, plain.socket.read_to_end(&mut said)).await.expect("closed").ok();
    let mut silent = TcpStream::connect(bed.edges(1)).await.unwrap();
    let ended = timeout(PATIENCE, silent.read(&mut [0; 8])).await.expect("closed in time");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(b.call("echo", "still").await.unwrap(), "still");
    assert!(metric(&bed, "limes_connections_cut_total{reason=\"PROTOCOL\"}").await >= 1);
    assert!(metric(&bed, "limes_connections_cut_total{reason=\"HANDSHAKE_TIMEOUT\"}").await >= 1);
}

/// Calls both ways, without a pause, until it is told to stop; each must succeed.
struct Traffic {
    stop: std::sync::Arc<AtomicBool>,
    count: std::sync::Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    async fn start(bed: &Bed) -> Traffic {
        let (edge, service) = (bed.edge(1).await, bed.service(1, "honest").await);
        let (stop, count) = (std::sync::Arc::<AtomicBool>::default(), std::sync::Arc::<AtomicU64>::default());
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
                }
            })
        });
        Traffic { tasks: tasks.collect(), stop, count }
    }

    /// Some more calls succeed.
    async fn flows(&self) {
        let goal = self.count.load(Ordering::Relaxed) + 20;
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

/// One frame of yamux.
fn yamux(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame
}

fn resident_kb(bed: &Bed) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", bed.cluster.node(1).pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Half-open handshakes at once; fewer where the process may not open so many files.
const HALF_OPEN: usize = 8_000;

#[tokio::test]
async fn peers_that_mean_harm_harm_nobody() {
    let bed = Bed::start_with(1, |config| {
        patient(config);
        config.limits.handshakes = 2_000;
    })
    .await;
    let traffic = Traffic::start(&bed).await;
    let before = resident_kb(&bed);

    half_open(&bed, &traffic).await;
    other_ports(&bed, &traffic).await;
    let (mut cut, mut kept) = (0, 0);
    for (what, bytes) in nuisances() {
        let (mut raw, _) = Raw::edge(&bed.edges(1)).await;
        for bytes in bytes.chunks(64 << 10) {
            // It may be closed before it has taken everything.
            if raw.socket.write_all(bytes).await.is_err() {
                break;
            }
        }
        // What is not cut off must still be served.
        let alive = raw.socket.write_all(&encode(call(1, "echo", 1))).await.is_ok();
        let answered = async {
            while let Some(event) = raw.next().await {
                if matches!(event, Event::Frame(Frame::Reply(_))) {
                    return true;
                }
            }
            false
        };
        match alive && answered.await {
            true => kept += 1,
            false => cut += 1,
        }
        traffic.flows().await;
        println!("{what}: {cut} cut off, {kept} kept so far");
    }
    assert!(cut >= 6, "only {cut} were cut off");
    registrations(&bed).await;
    traffic.flows().await;
    traffic.stop().await;

    let grown = resident_kb(&bed).saturating_sub(before);
    println!("the node grew by {grown} KiB");
    assert!(grown < 200 << 10, "{grown} KiB");
    assert!(metric(&bed, "limes_connections_cut_total{reason=\"PROTOCOL\"}").await >= 5);
    let log = bed.log(1);
    assert!(!log.contains("panicked"), "{log}");
    let lines = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert!(lines < 100, "{lines} warnings");
}

async fn half_open(bed: &Bed, traffic: &Traffic) {
    let mut half = Vec::new();
    for n in 0..HALF_OPEN {
        match TcpStream::connect(bed.edges(1)).await {
            Ok(mut socket) => {
                // Some say a part of a hello.
                if n % 3 == 0 {
                    socket.write_all(&MAGIC[..n % 8]).await.ok();
                }
                half.push(socket);
            }
            Err(error) => {
                println!("{error}: {} half-open handshakes must do", half.len());
                half.truncate(half.len() - 100);
                break;
            }
        }
    }
    traffic.flows().await;
    // A newcomer is served although so many stand before the door.
    let newcomer = bed.edge(1).await;
    assert_eq!(newcomer.call("echo", "in").await.unwrap(), "in");
    newcomer.close().await;
}

async fn other_ports(bed: &Bed, traffic: &Traffic) {
    let addresses = bed.cluster.node(1).addresses();
    let mut held = Vec::new();
    for port in [&addresses.mesh, &addresses.control, &addresses.metrics, &addresses.discovery] {
        for n in 0..300u32 {
            let Ok(mut socket) = TcpStream::connect(&**port).await else { break };
            let bytes: Vec<u8> = (0..n % 90).map(|at| (at * n) as u8).collect();
            let begin: &[u8] = match n % 4 {
                0 => b"",
                1 => b"GET /metrics HTTP/1.1\r\nHost: ",
                2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                _ => b"LIMES\r\n1",
            };
            socket.write_all(&[begin, &bytes[..]].concat()).await.ok();
            held.push(socket);
        }
        traffic.flows().await;
    }
    // The ports still answer.
    until("the metrics port answers", || async { bed.cluster.node(1).status().await.map(|_| ()) }).await;
}

fn encode(frame: Frame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let body = frame.encode(&mut bytes);
    bytes.extend_from_slice(&body);
    bytes.to_vec()
}

/// What a welcomed edge may send to annoy.
fn nuisances() -> Vec<(&'static str, Vec<u8>)> {
    let open = yamux(0, 1, 1, 0);
    let reset = |stream| yamux(1, 8, stream, 0);
    let record = |kind: u8, len: u32| [&[kind][..], &len.to_be_bytes()].concat();
    let data = |stream, bytes: &[u8]| [yamux(0, 0, stream, bytes.len() as u32), bytes.to_vec()].concat();
    vec![
        ("cancels of unknown ids", (0..50_000).flat_map(|id| encode(Frame::Cancel { id })).collect()),
        (
            "answers nobody asked for",
            (0..20_000)
                .flat_map(|id| encode(Frame::Reply(limes_wire::frame::Reply { id, body: Bytes::new() })))
                .collect(),
        ),
        ("a second hello", encode(Frame::Hello(Hello::default()))),
        ("a welcome", encode(Frame::Welcome(Welcome::default()))),
        ("an edge that registers", encode(Frame::Register(Names { id: 1, names: vec!["x".into()] }))),
        ("a frame of nodes", vec![0x80, 0, 0, 0, 0, 0, 0, 0]),
        ("an unknown frame", vec![0x7f, 0, 0, 0, 0, 0, 0, 0]),
        ("pings", (0..20_000).flat_map(|nonce| encode(Frame::Ping { nonce })).collect()),
        ("a stream with the gateway's number", yamux(0, 1, 2, 0)),
        ("a stream opened twice", [open.clone(), open.clone()].concat()),
        ("data of unknown streams", (0..5_000).flat_map(|n| data(2 * n + 1, b"x")).collect()),
        ("credit of unknown streams", (0..5_000).flat_map(|n| yamux(1, 0, n, 1)).collect()),
        (
            "too much credit",
            [open.clone(), (0..10).flat_map(|_| yamux(1, 0, 1, u32::MAX)).collect()].concat(),
        ),
        ("more than the window", [open.clone(), data(1, &vec![3; 900 << 10])].concat()),
        ("a yamux frame of 4 GiB", yamux(0, 1, 1, u32::MAX)),
        ("a yamux frame of no type", yamux(9, 0, 1, 0)),
        (
            "resets in every state",
            (0..2_000)
                .flat_map(|n| {
                    let stream = 2 * n + 1;
                    match n % 4 {
                        0 => [yamux(0, 1, stream, 0), reset(stream)].concat(),
                        1 => [reset(stream), yamux(0, 1, stream, 0), reset(stream)].concat(),
                        2 => [yamux(0, 5, stream, 0), reset(stream), reset(stream)].concat(),
                        _ => [yamux(1, 1, stream, 0), data(stream, &record(1, 3)), reset(stream)].concat(),
                    }
                })
                .collect(),
        ),
        ("a record of 4 GiB", [open.clone(), data(1, &record(3, u32::MAX))].concat()),
        ("an end before an open", [open.clone(), data(1, &[&record(4, 8)[..], &[0; 8]].concat())].concat()),
        ("more streams than are allowed", (0..3_000).flat_map(|n| yamux(0, 1, 2 * n + 1, 0)).collect()),
        ("yamux's good-bye", yamux(3, 0, 0, 2)),
    ]
}

/// A service that registers without end and never reads.
async fn registrations(bed: &Bed) {
    let mut service = Raw::service(&bed.services(1)).await;
    let flood = async {
        for id in 0..2_000u64 {
            let names = (0..1_000).map(|n| format!("{id}-{n}").as_str().into()).collect();
            let frame = encode(Frame::Register(Names { id, names }));
            if service.socket.write_all(&frame).await.is_err() {
                break;
            }
        }
    };
    let _ = timeout(Duration::from_secs(5), flood).await;
    drop(service);
    // The cluster still takes an honest registration.
    let honest = bed.service(1, "after the flood").await;
    let refused = honest.call_within(77, "echo", "", PATIENCE).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::NoEdge, "{refused}");
    honest.close().await;
}
