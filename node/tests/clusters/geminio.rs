//! Clients of the reference's dialect: Go programs against each other and against native peers, and
//! bytes that would end the reference.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{self, Bed, PATIENCE, until};
use bytes::BytesMut;
use limes_api::control::ListEdgeRpCsRequest;
use limes_api::control::control_plane_client::ControlPlaneClient;
use limes_api::discovery::ListFrontiersRequest;
use limes_api::discovery::cluster_service_client::ClusterServiceClient;
use limes_node::config::Addr;
use limes_sdk::{Bytes, Edge, Service};
use limes_wire::geminio::{Body, ConnData, HEADER, Header, MessageData, Packet, SessionData, Time, Word};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Whoever sets this wants the tests with Go to fail, rather than to be skipped, where there is none.
const DEMANDED: &str = "TEST_GO";

/// The Go program, built; `None`: skipped, and it says why.
async fn go_program(dir: &TempDir) -> Option<PathBuf> {
    let program = dir.path().join("geminio");
    let build = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/go"))
        .stdin(Stdio::null())
        .output();
    let failure = match timeout(Duration::from_secs(600), build).await {
        Ok(Ok(output)) if output.status.success() => return Some(program),
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Ok(Err(error)) => format!("go: {error}"),
        Err(_) => "go build did not end within ten minutes".to_owned(),
    };
    assert!(std::env::var_os(DEMANDED).is_none(), "{DEMANDED} is set, but: {failure}");
    eprintln!("SKIPPED: clients_of_the_reference (Go part): {failure}");
    None
}

fn go(program: &PathBuf, what: &str, bed: &Bed, nodes: &[usize]) -> Command {
    let mut command = Command::new(program);
    command.arg(what).args(nodes.iter().flat_map(|node| [bed.edges(*node), bed.services(*node)]));
    command.stdin(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs checks of the Go program to their end.
async fn run(program: &PathBuf, what: &str, bed: &Bed) {
    let checks = go(program, what, bed, &[1, 2, 3]).output();
    let checks = timeout(PATIENCE * 2, checks).await.expect("the Go program is stuck").unwrap();
    let said = String::from_utf8_lossy(&checks.stdout);
    println!("{said}");
    let complained = String::from_utf8_lossy(&checks.stderr);
    assert!(checks.status.success(), "{said}\n{complained}");
}

#[tokio::test]
async fn clients_of_the_reference() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other_addr = other.local_addr().unwrap().port();
    tokio::spawn(shout(other));
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::start_with(3, move |config| {
        support::patient(config);
        if config.cluster.name == "node-2" {
            config.edgebound.bypass_enable = true;
            config.edgebound.bypass.addrs = vec![Addr::new("127.0.0.1", other_addr)];
        }
    });
    let (bed, program) = tokio::join!(bed, go_program(&dir));
    let alone = async {
        timeout(PATIENCE, attacks(&bed)).await.expect("stuck");
        timeout(PATIENCE, bypassed(&bed)).await.expect("stuck");
    };
    match &program {
        // What does not care for each other, at once.
        Some(program) => {
            let pairings = timeout(PATIENCE * 2, dialects(&bed, program));
            let ((), pairings, ()) = tokio::join!(alone, pairings, run(program, "checks", &bed));
            pairings.expect("stuck");
        }
        None => alone.await,
    }
    timeout(PATIENCE, a_stale_connection(&bed)).await.expect("stuck");
    if let Some(program) = &program {
        run(program, "alone", &bed).await;
    }
    timeout(PATIENCE, a_node_that_leaves(&bed, program.as_ref())).await.expect("stuck");
}

/// Another gateway: it says what it has read, in capitals.
async fn shout(listener: TcpListener) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut text = vec![0; 1024];
            while let Ok(len @ 1..) = socket.read(&mut text).await {
                text[..len].make_ascii_uppercase();
                socket.write_all(&text[..len]).await.unwrap();
            }
        });
    }
}

/// What begins like neither dialect goes to the other gateway, where there is one, also if it begins
/// almost like one of ours; both dialects are served beside it.
async fn bypassed(bed: &Bed) {
    for (said, wanted) in [("get /", "GET /"), ("LINK me", "LINK ME"), ("\x01\x02x", "\x01\x02X")] {
        let mut socket = TcpStream::connect(bed.edges(2)).await.unwrap();
        // In two pieces: the first may be one of ours still.
        let (first, rest) = said.split_at(1);
        socket.write_all(first.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        socket.write_all(rest.as_bytes()).await.unwrap();
        let mut heard = vec![0; wanted.len()];
        timeout(PATIENCE, socket.read_exact(&mut heard)).await.expect("no word").unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), wanted);
        socket.shutdown().await.unwrap();
        let ended = timeout(PATIENCE, socket.read(&mut heard)).await.expect("still open").unwrap();
        assert_eq!(ended, 0);
    }
    let edge = bed.edge(2).await;
    let mut old = Bare::connect(&bed.edges(2), "x").await;
    assert!(old.accepted().await > 0);
    edge.close().await;
}

/// A node that is told to stop serves old services as ever until they ask again where the nodes are,
/// which its name leads away from at once.
async fn a_node_that_leaves(bed: &Bed, program: Option<&PathBuf>) {
    let directory = bed.cluster.node(1).addresses().discovery;
    let directory = ClusterServiceClient::connect(format!("http://{directory}")).await.unwrap();
    let mut service = Bare::service(bed, 2, "stays").await;
    let edge = bed.edge(1).await;
    let caller = bed.service(1, "caller").await;
    let ((mut busy, busy_id), stream) = tokio::join!(busy_edge(bed), caller.accept_stream());
    let mut moves = match program {
        Some(program) => Some(an_edge_that_moves(bed, program).await),
        None => None,
    };
    bed.cluster.terminate(2).unwrap();
    let own = bed.services(2);
    until("the name of the node leads elsewhere", || {
        let (mut directory, own) = (directory.clone(), own.clone());
        async move {
            let all = directory.list_frontiers(ListFrontiersRequest::default()).await.ok()?.into_inner();
            assert_eq!(all.frontiers.len(), 3);
            all.frontiers.iter().all(|node| node.advertised_sb_addr != own).then_some(())
        }
    })
    .await;
    let (answer, ()) = tokio::join!(edge.call_within("stays", "x", PATIENCE), async {
        let Some(Packet { id, body: Body::On(1, Word::Request(call)) }) = service.hear().await else {
            panic!("cut off")
        };
        let data = MessageData { key: call.key, value: "still".into(), ..MessageData::default() };
        service.say(id, Body::On(1, Word::Response(data))).await;
    });
    assert_eq!(answer.unwrap(), "still");
    // So is an edge that cannot leave for the sake of a stream.
    let (answer, ()) = tokio::join!(caller.call_within(busy_id, "any", "x", PATIENCE), async {
        let Some(Packet { id, body: Body::On(1, Word::Request(call)) }) = busy.hear().await else {
            panic!("cut off")
        };
        let data = MessageData { key: call.key, value: "here".into(), ..MessageData::default() };
        busy.say(id, Body::On(1, Word::Response(data))).await;
    });
    assert_eq!(answer.unwrap(), "here");
    if let Some((moves, lines)) = &mut moves {
        // It says so when it has been called at another node; its client says more.
        let mut said = Vec::new();
        while let Some(line) = timeout(PATIENCE, lines.next_line()).await.expect("stuck").unwrap() {
            said.push(line);
        }
        assert!(said.last().is_some_and(|line| line.ends_with(", 0 failed")), "{said:#?}");
        drop(moves.stdin.take());
        moves.wait().await.unwrap();
    }
    caller.close().await;
    drop((service, busy, stream));
    bed.cluster.node(2).ended().await;
    edge.close().await;
}

/// A Go edge on node 2, which connects again by itself, and a Go service on node 1 that knows it by its meta
/// and calls it all the time.
async fn an_edge_that_moves(bed: &Bed, program: &PathBuf) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut moves = go(program, "moves", bed, &[1, 2]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(moves.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.expect("stuck").unwrap();
    assert_eq!(line.as_deref(), Some("moving"));
    (moves, lines)
}

/// An edge on node 2 with a stream to a service "caller" that goes on.
async fn busy_edge(bed: &Bed) -> (Bare, u64) {
    let mut busy = Bare::connect(&bed.edges(2), "busy").await;
    let id = busy.accepted().await;
    let (negotiate, data) = (1 << 62, SessionData { peer: "caller".into(), ..SessionData::default() });
    busy.say(2, Body::Session { acquire: true, negotiate, data }).await;
    let Some(Packet { body: Body::SessionAck { .. }, .. }) = busy.hear().await else { panic!("no stream") };
    (busy, id)
}

/// Fixed parts that are cut, bodies that are too long, and types that are none, on fresh connections
/// of both ports while calls go on.
async fn attacks(bed: &Bed) {
    let (edge, service) = (bed.edge(1).await, bed.service(1, "victim").await);
    service.register("alive", |call| async move { Ok(call.body) }).await.unwrap();
    let head = |kind: u8, len: u32| [&[1, kind, 0, 0, 0, 0, 0, 0, 0, 1][..], &len.to_be_bytes()].concat();
    let conn = [head(1, 12), vec![0x18, 0, 0, 0, 0, 0, 0, 0, 0, 0], b"{}".to_vec()].concat();
    let mut packets: Vec<Vec<u8>> = vec![
        head(0x02, 0),
        head(0x31, 0),
        head(0x01, 3),
        [head(0x01, 9), vec![0; 20]].concat(),
        head(0x01, u32::MAX),
        head(0x51, 10 << 20),
        [head(0x01, 12), vec![0x18; 10], b"{]".to_vec()].concat(),
        [1, 0xff].repeat(40),
        [conn.clone(), conn.clone()].concat(),
    ];
    for (kind, len) in
        [(0x12, 0), (0x31, 9), (0x41, 0), (0x42, 7), (0x73, 8), (0x71, 7), (0x99, 0), (0x61, 0x00a0_0001)]
    {
        packets.push([conn.clone(), head(kind, len), vec![0; len.min(64) as usize]].concat());
    }
    // At once: some are left alone for a while before they are closed.
    let ends = packets.iter().flat_map(|packet| {
        [bed.edges(1), bed.services(1)].map(|addr| {
            let edge = &edge;
            async move {
                let mut socket = TcpStream::connect(&addr).await.unwrap();
                socket.write_all(packet).await.unwrap();
                let mut rest = Vec::new();
                // Closed, in whatever way, and nothing else has happened.
                let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("still open");
                assert_eq!(edge.call_within("alive", "alive", PATIENCE).await.unwrap(), "alive");
            }
        })
    });
    futures::future::join_all(ends).await;
    edge.close().await;
    service.close().await;
}

/// A client that says nothing by itself.
struct Bare(TcpStream);

impl Bare {
    async fn connect(addr: &str, meta: &str) -> Bare {
        let mut bare = Bare(TcpStream::connect(addr).await.unwrap());
        let data = ConnData { meta: meta.to_owned().into(), ..ConnData::default() };
        bare.say(1, Body::Conn { acquire: true, heartbeat: 1, client: 0, data }).await;
        bare
    }

    /// A service of that name, which offers a method of that name.
    async fn service(bed: &Bed, node: usize, name: &str) -> Bare {
        let mut service = Bare(TcpStream::connect(bed.services(node)).await.unwrap());
        let meta = format!(r#"{{"service":"{name}","topics":null}}"#);
        let data = ConnData { meta: meta.into(), ..ConnData::default() };
        service.say(1, Body::Conn { acquire: true, heartbeat: 1, client: 0, data }).await;
        service.accepted().await;
        service.say(2, Body::On(1, Word::Register(name.to_owned().into()))).await;
        service.hear().await.unwrap();
        service
    }

    async fn say(&mut self, id: u64, body: Body) {
        let mut out = BytesMut::new();
        let payload = Packet { id, body }.encode(&mut out).unwrap();
        out.extend_from_slice(&payload);
        self.0.write_all(&out).await.unwrap();
    }

    /// The next packet; `None`: the connection has ended.
    async fn hear(&mut self) -> Option<Packet> {
        let mut head = [0; HEADER];
        timeout(PATIENCE, self.0.read_exact(&mut head)).await.expect("silent").ok()?;
        let header = Header::decode(head).unwrap();
        let mut body = vec![0; header.len];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.expect("silent").ok()?;
        Some(Packet::decode(header, body.into()).unwrap())
    }

    async fn accepted(&mut self) -> u64 {
        match self.hear().await.unwrap().body {
            Body::ConnAck { refused: false, client, .. } => client,
            other => panic!("{other:?}"),
        }
    }
}

/// 6.1: an edge comes back while its old connection looks alive and says nothing. And one that does
/// not read does not hold up the others.
async fn a_stale_connection(bed: &Bed) {
    bed.all_show(&[1, 2, 3], "services", 0).await;
    let service = bed.service(3, "ids").await;
    service
        .register("get_edge_id", |call| async move {
            let id: u64 = String::from_utf8_lossy(&call.body[10..12]).parse().unwrap_or(1);
            Ok(Bytes::copy_from_slice(&(7_000 + id).to_be_bytes()))
        })
        .await
        .unwrap();
    let mut old = Bare::connect(&bed.edges(1), "42").await;
    assert_eq!(old.accepted().await, 7_042);
    // The old one never answers from now on; the new one is reached at once.
    let began = Instant::now();
    let mut new = Bare::connect(&bed.edges(1), "42").await;
    assert_eq!(new.accepted().await, 7_042);
    let (answer, ()) = tokio::join!(service.call_within(7_042, "who", "x", PATIENCE), async {
        let Packet { id, body: Body::On(1, Word::Request(call)) } = new.hear().await.unwrap() else {
            panic!()
        };
        let data = MessageData { key: call.key, value: "new".into(), ..MessageData::default() };
        new.say(id, Body::On(1, Word::Response(data))).await;
    });
    assert_eq!(answer.unwrap(), "new");
    // The old socket is closed without its help, and not before a client could bear it.
    assert!(old.hear().await.is_none());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // A deadline that has passed on arrival says that the clocks differ, and is not kept.
    let past = Some(Time::after(SystemTime::now() - Duration::from_secs(3_600), Duration::ZERO));
    let late = MessageData { key: "who".into(), deadline: past, ..MessageData::default() };
    new.say(77, Body::On(1, Word::Request(late))).await;
    let Packet { id: 77, body: Body::On(1, Word::Response(answer)) } = new.hear().await.unwrap() else {
        panic!()
    };
    assert_eq!((&answer.value[..], answer.error.as_str()), (&b"ids"[..], ""));
    // An edge that reads nothing: its queue fills, and others are served meanwhile.
    let mut deaf = Bare::connect(&bed.edges(1), "43").await;
    assert_eq!(deaf.accepted().await, 7_043);
    let big = Bytes::from(vec![7; 2 << 20]);
    let calls = (0..5).map(|_| service.call_within(7_043, "who", big.clone(), Duration::from_secs(1)));
    let stuck = futures::future::join_all(calls);
    let (stuck, answer) = tokio::join!(stuck, async {
        let answer = service.call_within(7_042, "who", "x", PATIENCE);
        let (answer, ()) = tokio::join!(answer, async {
            let Packet { id, .. } = new.hear().await.unwrap();
            new.say(id, Body::On(1, Word::Response(MessageData::default()))).await;
        });
        answer
    });
    assert!(answer.is_ok() && stuck.iter().all(Result::is_err));
    slow_receiver(bed).await;
    // A service id that is wished for is granted, also twice.
    for _ in 0..2 {
        let mut wish = Bare(TcpStream::connect(bed.services(1)).await.unwrap());
        let data = ConnData { meta: r#"{"service":"","topics":null}"#.into(), ..ConnData::default() };
        wish.say(1, Body::Conn { acquire: true, heartbeat: 1, client: 4_711, data }).await;
        assert_eq!(wish.accepted().await, 4_711);
    }
    service.close().await;
    until("the services are gone", || async {
        let left = [bed.figure(1, "services").await, bed.figure(3, "services").await];
        (left == [Some(0), Some(0)]).then_some(())
    })
    .await;
}

/// An edge that does not read: a service's stream to it is closed, and the service's connection is read on.
async fn slow_receiver(bed: &Bed) {
    let mut deaf = Bare::connect(&bed.edges(1), "44").await;
    assert_eq!(deaf.accepted().await, 7_044);
    let mut service = Bare::service(bed, 1, "bulk").await;
    let (negotiate, data) = (1 << 62, SessionData { peer: "7044".into(), ..SessionData::default() });
    service.say(3, Body::Session { acquire: true, negotiate, data }).await;
    let Some(Packet { id, body: Body::Session { negotiate: at, .. } }) = deaf.hear().await else { panic!() };
    let taken = Body::SessionAck { negotiate: at, session: at, data: SessionData::default() };
    deaf.say(id, taken).await;
    let Some(Packet { body: Body::SessionAck { session, .. }, .. }) = service.hear().await else { panic!() };
    // More than the sockets on the way hold and a stream may have waiting.
    let piece = Bytes::from(vec![7; 1 << 20]);
    for id in 0..64 {
        service.say(100 + id, Body::On(session, Word::Data(piece.clone()))).await;
    }
    let edge = bed.edge(1).await;
    let (answer, ()) = tokio::join!(edge.call_within("bulk", "x", PATIENCE), async {
        let (mut answered, mut dismissed) = (false, false);
        while !answered || !dismissed {
            match service.hear().await.expect("cut off") {
                Packet { id, body: Body::On(1, Word::Request(call)) } => {
                    let data =
                        MessageData { key: call.key, value: "read on".into(), ..MessageData::default() };
                    service.say(id, Body::On(1, Word::Response(data))).await;
                    answered = true;
                }
                Packet { body: Body::Dismiss { session: at, .. }, .. } => dismissed |= at == session,
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(answer.unwrap(), "read on");
    assert_eq!(bed.metric(1, "limes_slow_streams_total").await, 1);
    edge.close().await;
}

/// A Go edge and a Go service on one node, native ones on another and on the same.
async fn dialects(bed: &Bed, program: &PathBuf) {
    let mut held = go(program, "hold", bed, &[1]).stdout(Stdio::piped()).spawn().unwrap();
    let go_edge = held_edge(&mut held).await;
    let pairing = async |node, name: &'static str| {
        let service = bed.service(node, name).await;
        service.subscribe([format!("news-{name}")]).await.unwrap();
        let fails = |_| async move { Err(limes_sdk::Failed::new("native failed")) };
        service.register(&format!("fail-{name}"), fails).await.unwrap();
        let echo = |call: limes_sdk::Call| async move { Ok(call.body) };
        service.register(&format!("echo-{name}"), echo).await.unwrap();
        let edge = bed.edge(node).await;
        go_edge_and_native_service(&service, name, go_edge).await;
        native_edge_and_go_service(&edge).await;
        edge.close().await;
        service.close().await;
    };
    let methods = async {
        let control = bed.cluster.node(2).addresses().control;
        let mut control = ControlPlaneClient::connect(format!("http://{control}")).await.unwrap();
        let request =
            ListEdgeRpCsRequest { edge_id: Some(go_edge), page: 1, page_size: 9, ..Default::default() };
        let listed = control.list_edge_rp_cs(request).await.unwrap().into_inner();
        assert_eq!((listed.rpcs.as_slice(), listed.count), (&EDGE_METHODS.map(String::from)[..], 5));
    };
    tokio::join!(pairing(3, "far"), pairing(1, "near"), methods);
    drop(held.stdin.take());
    timeout(PATIENCE, held.wait()).await.unwrap().unwrap();
}

/// What the Go edge offers.
const EDGE_METHODS: [&str; 5] = ["custom", "do", "echo", "panic", "slow"];

async fn held_edge(held: &mut Child) -> u64 {
    let mut lines = BufReader::new(held.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap_or_default();
    line.strip_prefix("held ").and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

async fn go_edge_and_native_service(service: &Service, name: &str, edge: u64) {
    let call = async |method: &str, body: &str| {
        service
            .call_within(edge, method, body.to_owned(), PATIENCE)
            .await
            .map(|body| String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(call("echo", "down").await.unwrap(), "down");
    let unknown = call("nosuch", "").await.unwrap_err();
    assert_eq!(unknown.text(), "no such rpc: nosuch");
    assert_eq!(call("do", &format!("call - echo-{name} up")).await.unwrap(), "up");
    let failed = call("do", &format!("call - fail-{name} x")).await.unwrap_err();
    assert_eq!(failed.text(), "native failed");
    assert_eq!(call("do", "call - nosuch x").await.unwrap_err().text(), "record not found");
    let (fresh, topic) = (format!("publish news-{name} fresh"), format!("news-{name}"));
    let (published, ()) = tokio::join!(call("do", &fresh), async {
        let message = service.receive().await.unwrap();
        let said = (message.topic.as_str(), &message.body[..], message.peer);
        assert_eq!(said, (topic.as_str(), &b"fresh"[..], edge));
        message.done();
    });
    published.unwrap();
    let stale = format!("publish {topic} stale");
    let (refused, ()) = tokio::join!(call("do", &stale), async {
        service.receive().await.unwrap().error("too old");
    });
    assert_eq!(refused.unwrap_err().text(), "too old");
    service.publish(edge, "any", "down").await.unwrap();
    assert_eq!(service.publish(edge, "any", "bad").await.unwrap_err().text(), "no legs");
    // A stream from Go; the native end closes it when it has echoed.
    let hello = format!("stream {name} hello");
    let (carried, ()) = tokio::join!(call("do", &hello), async {
        let mut far = service.accept_stream().await.unwrap();
        assert_eq!((far.peer, &far.meta[..]), (edge, &b"from go"[..]));
        let mut text = [0; 5];
        far.stream.read_exact(&mut text).await.unwrap();
        far.stream.write_all(&text).await.unwrap();
        // Nothing is lost when the other end closes: the end comes as an end.
        assert_eq!(far.stream.read(&mut text).await.unwrap(), 0);
        far.stream.shutdown().await.unwrap();
    });
    assert_eq!(carried.unwrap(), "hello / no such rpc: inner");
    // And one to Go, which echoes.
    let mut near = service.open_stream(edge, "", "").await.unwrap();
    let data = vec![7; 256 << 10];
    let mut back = vec![0; data.len()];
    let (mut read, mut write) = tokio::io::split(&mut near);
    let (written, read) = tokio::join!(write.write_all(&data), read.read_exact(&mut back));
    written.unwrap();
    read.unwrap();
    assert_eq!(back, data);
    near.shutdown().await.unwrap();
    assert_eq!(near.read(&mut back).await.unwrap(), 0);
}

async fn native_edge_and_go_service(edge: &Edge) {
    let call = async |method: &str, body: &str| {
        edge.call_within(method, body.to_owned(), PATIENCE)
            .await
            .map(|body| String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(call("go-echo", "up").await.unwrap(), "up");
    assert_eq!(call("go-fail", "").await.unwrap_err().text(), "go failed");
    let id = edge.id();
    assert_eq!(call("go-do", &format!("call {id} echo down")).await.unwrap(), "down");
    let unknown = call("go-do", &format!("call {id} nosuch x")).await.unwrap_err();
    assert_eq!(unknown.text(), "no such rpc: nosuch");
    assert_eq!(call("go-do", "call 4242424242 echo x").await.unwrap_err().text(), "edge not online");
    edge.publish("go-topic", "fresh").await.unwrap();
    assert_eq!(edge.publish("go-topic", "bad").await.unwrap_err().text(), "no legs");
    let body = format!("publish {id} down");
    let (published, ()) = tokio::join!(call("go-do", &body), async {
        let message = edge.receive().await.unwrap();
        assert_eq!(&message.body[..], b"down");
        message.done();
    });
    published.unwrap();
    let body = format!("stream {id} hello");
    let (carried, ()) = tokio::join!(call("go-do", &body), async {
        let mut far = edge.accept_stream().await.unwrap();
        let mut text = [0; 5];
        far.stream.read_exact(&mut text).await.unwrap();
        far.stream.write_all(&text).await.unwrap();
        assert_eq!(far.stream.read(&mut text).await.unwrap(), 0);
        far.stream.shutdown().await.unwrap();
    });
    assert_eq!(carried.unwrap(), "hello / no such rpc: inner");
    let mut near = edge.open_stream("go-service", "meta").await.unwrap();
    near.write_all(b"question").await.unwrap();
    let mut text = [0; 8];
    near.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"question");
    near.shutdown().await.unwrap();
    assert_eq!(near.read(&mut text).await.unwrap(), 0);
}
