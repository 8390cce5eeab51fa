//! Client programs against real nodes: the Python client and the examples of the SDK.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::program::{Program, output};
use crate::support::{Bed, PATIENCE, brisk, until};
use limes_node::config::Size;
use limes_sdk::{Edge, Kind, Service};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;
use tracing_subscriber::fmt::format::FmtSpan;

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A Python that is new enough; `None` without one, in which case the test prints that it is skipped.
async fn python(test: &str) -> Option<Command> {
    let mut check = Command::new("python3");
    check.args(["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]);
    if output(&mut check).await.is_ok_and(|output| output.status.success()) {
        let mut command = Command::new("python3");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        return Some(command);
    }
    eprintln!("skipped: {test}: no python3 of 3.11 or newer is found");
    None
}

#[tokio::test]
async fn the_python_client_reads_and_writes_the_golden_bytes() {
    let Some(mut python) = python("golden bytes in Python").await else { return };
    Program::start(python.arg(in_repository("sdk/python/tests/test_golden.py"))).finish().await;
}

#[tokio::test]
async fn the_python_client_works_with_real_nodes() {
    let Some(mut python) = python("the client in Python").await else { return };
    let bed = Bed::start_with(3, |config| {
        brisk(config);
        // As `live.py` has it.
        config.limits.body = Size::bytes(4 << 20);
        config.limits.names = 6;
    })
    .await;
    let all =
        |at: fn(&Bed, usize) -> String| (1..=3).map(|node| at(&bed, node)).collect::<Vec<_>>().join(",");
    let script = python.arg(in_repository("sdk/python/tests/live.py"));
    let mut client = Program::start(script.args([all(Bed::edges), all(Bed::services)]));
    let (mut held, mut stopped) = (Vec::new(), None);
    let number = |name: &str| name.strip_prefix("node-").unwrap().parse::<usize>().unwrap();
    while let Some(line) = client.line().await {
        let Some(asked) = line.strip_prefix("ask: ") else {
            held.push(line);
            continue;
        };
        match asked.split_once(' ').unwrap() {
            ("call", edge) => meet(&bed, edge.parse().unwrap()).await,
            ("stop", node) => {
                let node = number(node);
                bed.cluster.node(node).signal(Signal::SIGTERM).unwrap();
                stopped = Some(node);
            }
            ("kill", node) => {
                let killed = number(node);
                // It ends when its clients have left.
                if let Some(node) = stopped.take() {
                    bed.cluster.node(node).ended().await;
                    bed.cluster.restart(node).unwrap();
                }
                bed.cluster.wait_ready(PATIENCE).await.unwrap();
                bed.cluster.kill9(killed).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
        client.write("done").await;
    }
    client.finish().await;
    let wanted = [
        "calls both ways",
        "messages both ways",
        "errors, deadlines, cancels",
        "limits are reported and cost nothing",
        "alive by pings",
        "moved without a failed call",
        "came back with its methods",
        "done",
    ];
    assert_eq!(held, wanted);
}

/// A native service calls the Python edge. Its stream to the edge is refused, before it times out.
async fn meet(bed: &Bed, edge: u64) {
    let service = bed.service(2, "visitor").await;
    let reply = service.call_within(edge, "greet", "rust", PATIENCE).await.unwrap();
    assert_eq!(reply, format!("hello rust from {}", service.id()));
    let refused = service.open_stream(edge, "tcp", "").await.unwrap_err();
    assert_ne!(refused.kind(), Kind::Timeout, "{refused}");
    service.close().await;
}

/// An example of the SDK, run as its documentation says.
fn example(name: &str, bed: &Bed, node: usize) -> Command {
    let folder = Path::new(env!("CARGO_BIN_EXE_limes")).parent().unwrap().join("examples");
    let program = folder.join(name);
    assert!(program.exists(), "{} is missing: cargo build -p limes-sdk --examples", program.display());
    let mut command = Command::new(program);
    command.env("LIMES_EDGES", bed.edges(node)).env("LIMES_SERVICES", bed.services(node));
    command
}

#[tokio::test]
async fn the_examples_print_what_they_document() {
    let bed = Bed::start(1).await;
    hello(&bed).await;
    chatroom(&bed).await;
    port_forward(&bed).await;
}

async fn hello(bed: &Bed) {
    let mut hello = Program::start(&mut example("hello", bed, 1));
    let said = hello.until("the service says: ").await;
    assert!(said.starts_with("hello world, you are edge "), "{said}");
    assert_eq!(hello.until("the edge says:    ").await, "21.5 degrees");
    hello.finish().await;
}

async fn chatroom(bed: &Bed) {
    let mut server = Program::start(example("chatroom", bed, 1).arg("serve"));
    server.until("the room is open").await;
    let mut ann = Program::start(example("chatroom", bed, 1).args(["join", "ann"]));
    assert_eq!(server.until("").await, "ann is here");
    let mut bob = Program::start(example("chatroom", bed, 1).args(["join", "bob"]));
    assert_eq!(server.until("").await, "bob is here");
    ann.until("you are in").await;
    bob.until("you are in").await;
    ann.write("good morning").await;
    assert_eq!(bob.until("").await, "ann: good morning");
    bob.write("hello ann").await;
    assert_eq!(ann.until("").await, "bob: hello ann");
    // They leave when their input ends.
    ann.finish().await;
    bob.finish().await;
}

async fn port_forward(bed: &Bed) {
    // The server at the site: reads to the end and answers in capitals.
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = server.local_addr().unwrap().to_string();
    let echo = tokio::spawn(async move {
        loop {
            let (mut socket, _) = server.accept().await.unwrap();
            let mut got = Vec::new();
            socket.read_to_end(&mut got).await.unwrap();
            got.make_ascii_uppercase();
            socket.write_all(&got).await.unwrap();
        }
    });
    let mut site = Program::start(example("port_forward", bed, 1).args(["site", &target]));
    let line = site.until("edge ").await;
    let edge = line.split(' ').next().unwrap();
    let mut desk = Program::start(example("port_forward", bed, 1).args(["desk", edge, "127.0.0.1:0"]));
    let here = desk.until("listening on ").await;
    for text in ["select 1", "x".repeat(3 << 20).as_str()] {
        let mut socket = TcpStream::connect(&here).await.unwrap();
        let (mut read, mut write) = socket.split();
        let mut got = Vec::new();
        let (sent, back) = tokio::join!(
            async {
                write.write_all(text.as_bytes()).await?;
                write.shutdown().await
            },
            timeout(PATIENCE, read.read_to_end(&mut got)),
        );
        sent.unwrap();
        back.expect("it comes back in time").unwrap();
        assert!(
            got == text.to_ascii_uppercase().as_bytes(),
            "{} bytes came back of {}",
            got.len(),
            text.len()
        );
    }
    echo.abort();
    // Without the server, the caller's connection is closed.
    let mut socket = TcpStream::connect(&here).await.unwrap();
    socket.write_all(b"anybody?").await.unwrap();
    let ended = timeout(PATIENCE, socket.read(&mut [0; 8])).await.expect("it ends in time");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

/// The spans of the clients in this process.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Traced {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.windows(6).any(|word| word == b"limes.") {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A client that closes finishes the calls that it handles and waits for those that it made.
#[tokio::test]
async fn clients_lose_no_request_on_close_and_cancel_dropped_ones() {
    let traced = Traced::default();
    let writer = traced.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::NEW)
        .with_writer(move || writer.clone())
        .finish();
    // For the whole process: the interest in spans is cached globally.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let bed = Bed::start(1).await;
    let edge = bed.edge(1).await;
    nothing_is_lost_when_a_service_leaves(&bed, &edge).await;
    let text = String::from_utf8_lossy(&traced.0.lock().unwrap()).into_owned();
    for span in
        ["limes.connection{role=Edge", "limes.connection{role=Service", "limes.call{", "limes.handler{"]
    {
        assert!(text.contains(span), "no span {span} in {text}");
    }
    let service = bed.service(1, "other").await;
    a_dropped_call_is_cancelled_at_its_handler(&service, &edge).await;
    calls_over_the_limit_wait(&edge).await;
    until("the edge and the service are left", || async {
        (bed.figure(1, "sessions").await == Some(2)).then_some(())
    })
    .await;
}

async fn nothing_is_lost_when_a_service_leaves(bed: &Bed, edge: &Edge) {
    let service = Service::builder("slow").address(bed.services(1)).connect_timeout(PATIENCE);
    let service = service.connect().await.unwrap();
    let (tell, mut begun) = tokio::sync::mpsc::channel(1);
    let slow = move |call: limes_sdk::Call| {
        let tell = tell.clone();
        async move {
            tell.send(()).await.ok();
            tokio::time::sleep(Duration::from_millis(700)).await;
            Ok(call.body)
        }
    };
    service.register("slow", slow).await.unwrap();
    let call = tokio::spawn({
        let edge = edge.clone();
        async move { edge.call("slow", "yes").await }
    });
    begun.recv().await.unwrap();
    service.close().await;
    assert_eq!(call.await.unwrap().unwrap(), "yes", "the call failed because the service closed");
    // Calls on their way to a service that closes are served by another.
    let (first, second) = (bed.service(1, "first").await, bed.service(1, "second").await);
    let answers = Arc::<AtomicU64>::default();
    let load: Vec<_> = (0..32)
        .map(|_| {
            let (edge, answers) = (edge.clone(), answers.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    edge.call("echo", "x").await?;
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, limes_sdk::CallError>(())
            })
        })
        .collect();
    until("calls are served", || async { (answers.load(Ordering::Relaxed) > 100).then_some(()) }).await;
    first.close().await;
    for load in load {
        load.await.unwrap().expect("a call failed because a service shut down gracefully");
    }
    second.close().await;
    // Its method is gone at once.
    let error = edge.call("slow", "more").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::NoMethod), "{error}");
}

async fn a_dropped_call_is_cancelled_at_its_handler(service: &Service, edge: &Edge) {
    let (alive, ended) = tokio::sync::oneshot::channel::<()>();
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let held = Mutex::new(Some(alive));
    let hang = move |_: limes_sdk::Call| {
        let held = held.lock().unwrap().take();
        let begin = begin.clone();
        async move {
            let _held = held;
            let _ = begin.send(());
            std::future::pending::<()>().await;
            Ok("".into())
        }
    };
    service.register("hang", hang).await.unwrap();
    tokio::select! {
        answer = edge.call("hang", "") => panic!("answered: {answer:?}"),
        begun = timeout(PATIENCE, begun.recv()) => assert!(begun.is_ok(), "the handler begins"),
    }
    assert!(timeout(PATIENCE, ended).await.expect("the handler is dropped").is_err());
}

/// The SDK holds back what the gateway would refuse as busy.
async fn calls_over_the_limit_wait(edge: &Edge) {
    let body = limes_sdk::Bytes::from(vec![7; 1 << 20]);
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let (edge, body) = (edge.clone(), body.clone());
            tokio::spawn(async move { edge.call_within("echo", body, PATIENCE).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().len(), 1 << 20);
    }
}
