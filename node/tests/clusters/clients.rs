//! Programs of others against real nodes: the client in Python, and the examples of the SDK.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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

fn room(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A Python that is new enough; where there is none, the tests that want it say so and do nothing.
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
async fn the_client_in_python_reads_and_writes_the_golden_bytes() {
    let Some(mut python) = python("golden bytes in Python").await else { return };
    Program::start(python.arg(room("sdk/python/tests/test_golden.py"))).finish().await;
}

#[tokio::test]
async fn the_client_in_python_lives_with_real_nodes() {
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
    let script = python.arg(room("sdk/python/tests/live.py"));
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
                // It may take its time to leave.
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

/// A service of the SDK calls the edge in Python; a stream to it is refused, and soon.
async fn meet(bed: &Bed, edge: u64) {
    let service = bed.service(2, "visitor").await;
    let reply = service.call_within(edge, "greet", "rust", PATIENCE).await.unwrap();
    assert_eq!(reply, format!("hello rust from {}", service.id()));
    let refused = service.open_stream(edge, "tcp", "").await.unwrap_err();
    assert_ne!(refused.kind(), Kind::Timeout, "{refused}");
    service.close().await;
}

/// An example of the SDK, as its first lines say to run it.
fn example(name: &str, bed: &Bed, node: usize) -> Command {
    let folder = Path::new(env!("CARGO_BIN_EXE_limes")).parent().unwrap().join("examples");
    let program = folder.join(name);
    assert!(program.exists(), "{} is missing: cargo build -p limes-sdk --examples", program.display());
    let mut command = Command::new(program);
    command.env("LIMES_EDGES", bed.edges(node)).env("LIMES_SERVICES", bed.services(node));
    command
}

#[tokio::test]
async fn the_examples_do_what_they_say() {
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
    // What the site has: a server that sends back in capitals what it is sent, to its end.
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
    // Nobody listens at the site any more: the desk's caller learns that by a closed connection.
    let mut socket = TcpStream::connect(&here).await.unwrap();
    socket.write_all(b"anybody?").await.unwrap();
    let ended = timeout(PATIENCE, socket.read(&mut [0; 8])).await.expect("it ends in time");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

/// The spans of this program's clients.
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

/// What a closed service had taken is finished, and what it had asked.
#[tokio::test]
async fn a_client_that_closes_lets_what_is_in_flight_end() {
    let traced = Traced::default();
    let writer = traced.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::NEW)
        .with_writer(move || writer.clone())
        .finish();
    // Not for this thread alone: which spans anybody wants is remembered for the whole program.
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
    let _other = what_is_dropped_is_cancelled_and_what_is_too_much_waits(&bed, &edge).await;
    until("nothing is left", || async { (bed.figure(1, "sessions").await == Some(2)).then_some(()) }).await;
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
    assert_eq!(call.await.unwrap().unwrap(), "yes", "the call was cut off");
    // What is on its way to a service that leaves is not lost: others serve it.
    let (first, second) = (bed.service(1, "first").await, bed.service(1, "second").await);
    let load: Vec<_> = (0..32)
        .map(|_| {
            let edge = edge.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    edge.call("echo", "x").await?;
                }
                Ok::<_, limes_sdk::CallError>(())
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(30)).await;
    first.close().await;
    for load in load {
        load.await.unwrap().expect("a call failed because a service left in order");
    }
    second.close().await;
    // It is gone at once, though: nobody else is sent there.
    let error = edge.call("slow", "more").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::NoMethod), "{error}");
}

/// Gives the service that is left.
async fn what_is_dropped_is_cancelled_and_what_is_too_much_waits(bed: &Bed, edge: &Edge) -> Service {
    // Dropping a call's future cancels it at the receiver.
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let held = Mutex::new(Some(tell));
    let hang = move |_: limes_sdk::Call| {
        let held = held.lock().unwrap().take();
        async move {
            let _held = held;
            std::future::pending::<()>().await;
            Ok("".into())
        }
    };
    let service = bed.service(1, "other").await;
    service.register("hang", hang).await.unwrap();
    let dropped = timeout(Duration::from_millis(300), edge.call("hang", "")).await;
    assert!(dropped.is_err());
    assert!(timeout(PATIENCE, told).await.expect("the handler is dropped").is_err());

    // More than the gateway takes at once: whoever sends waits, nobody is told "busy".
    let body = limes_sdk::Bytes::from(vec![7; 1 << 20]);
    let began = Instant::now();
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let (edge, body) = (edge.clone(), body.clone());
            tokio::spawn(async move { edge.call_within("echo", body, PATIENCE).await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().len(), 1 << 20);
    }
    println!("40 calls of 1 MiB took {:?}", began.elapsed());
    service
}
