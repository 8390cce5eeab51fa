//! The SDK against a gateway that the test scripts: limits, refused names, addresses that do not answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use limes_sdk::{Bytes, ConnectError, Edge, Kind, Service, State};
use limes_wire::driver::{Cx, Handler, Mailbox, Native, PeerEvent, drive};
use limes_wire::frame::{Call, Done, Execution, Frame, GoAway, Names, Reply, Welcome};
use limes_wire::limits::Limits;
use limes_wire::{CloseReason, Code, Conn};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

/// Time limit of any step on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command of the test to the gateway.
enum Command {
    Send(Frame),
    Close(Code),
}

/// A gateway with a port of its own.
struct Gateway {
    address: String,
    /// Largest number of names of one connection.
    max_names: Arc<AtomicUsize>,
    /// Each connection, in order.
    connections: UnboundedReceiver<Connection>,
}

/// One connection, as the gateway sees it.
struct Connection {
    mailbox: Mailbox<Command>,
    names: Arc<Mutex<BTreeSet<String>>>,
    frames: UnboundedReceiver<Frame>,
}

/// The handler of one connection: welcomes the client, takes up to `max_names` names, and echoes calls.
struct Echo {
    max_names: Arc<AtomicUsize>,
    names: Arc<Mutex<BTreeSet<String>>>,
    /// Takes all other frames.
    frames: UnboundedSender<Frame>,
}

impl Gateway {
    async fn start(max_names: usize, body: usize) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (accepted, connections) = unbounded_channel();
        let max_names = Arc::new(AtomicUsize::new(max_names));
        let limit = max_names.clone();
        tokio::spawn(async move {
            loop {
                let socket = listener.accept().await.unwrap().0;
                let (mailbox, names) = (Mailbox::new(), Arc::<Mutex<BTreeSet<String>>>::default());
                let (sender, frames) = unbounded_channel();
                let handler = Echo { max_names: limit.clone(), names: names.clone(), frames: sender };
                let conn = Conn::server(Instant::now(), Limits { body, ..Limits::default() });
                tokio::spawn(drive(socket, conn, handler, mailbox.clone()));
                let _ = accepted.send(Connection { mailbox, names, frames });
            }
        });
        Gateway { address, max_names, connections }
    }

    async fn connection(&mut self) -> Connection {
        timeout(PATIENCE, self.connections.recv()).await.expect("no client connects").unwrap()
    }

    async fn service(&self) -> Service {
        let service = Service::builder("shop").address(&self.address).connect_timeout(PATIENCE);
        service.backoff_max(Duration::from_millis(50)).connect().await.unwrap()
    }
}

impl Connection {
    fn command(&self, command: Command) {
        assert!(self.mailbox.push_always(command));
    }

    fn names(&self) -> Vec<String> {
        self.names.lock().unwrap().iter().cloned().collect()
    }

    /// The next frame of the client, other than a call or a change of names.
    async fn next_frame(&mut self) -> Frame {
        timeout(PATIENCE, self.frames.recv()).await.expect("no frame").expect("the connection ended")
    }
}

impl Echo {
    fn add_names(&self, Names { id, names }: Names, cx: &mut Cx<'_>) {
        let mut all = self.names.lock().unwrap();
        let mut more = all.clone();
        more.extend(names.iter().map(|name| name.to_string()));
        let fits = more.len() <= self.max_names.load(Ordering::Relaxed);
        let (code, text) = if fits { (Code::OK, "") } else { (Code::LIMIT, "limits.names") };
        if fits {
            *all = more;
        }
        cx.send(Frame::Done(Done { id, code, text: text.to_owned() }));
    }
}

impl Handler for Echo {
    type Protocol = Native;
    type Message = Command;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Hello(_) => {
                cx.welcome(Welcome { id: 7, node: "node-1".into(), ..Welcome::default() });
            }
            PeerEvent::Frame(Frame::Register(names) | Frame::Subscribe(names)) => self.add_names(names, cx),
            PeerEvent::Frame(Frame::Call(call)) => {
                cx.send(Frame::Reply(Reply { id: call.id, body: call.body }));
            }
            PeerEvent::Frame(answer) => {
                let _ = self.frames.send(answer);
            }
            PeerEvent::GoAway(_) => cx.close(GoAway::new(Code::OK, "good-bye")),
            PeerEvent::Welcome(_) | PeerEvent::Stream(_) | PeerEvent::Silence(_) => {}
        }
    }

    fn on_message(&mut self, command: Command, cx: &mut Cx<'_>) {
        match command {
            Command::Send(frame) => {
                cx.send(frame);
            }
            Command::Close(code) => cx.close(GoAway::new(code, "closed by the test")),
        }
    }

    fn on_timeout(&mut self, _: Instant, _: &mut Cx<'_>) {}

    fn on_closing(&mut self, _: Vec<Command>) {}

    fn on_close(self, _: CloseReason) {}
}

/// Waits until the service is connected and this connection has so many names.
async fn until_names(service: &Service, connection: &Connection, count: usize) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let names = connection.names();
        if names.len() == count && *service.state().borrow() == State::Connected("node-1".to_owned()) {
            return names;
        }
        assert!(Instant::now() < end, "{names:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn echo(service: &Service, method: &str) -> Result<(), limes_sdk::CallError> {
    service.register(method, |call| async move { Ok(call.body) }).await
}

#[tokio::test]
async fn a_refused_name_does_not_keep_a_service_from_reconnecting() {
    let mut gateway = Gateway::start(3, 1 << 20).await;
    let service = gateway.service().await;
    let first = gateway.connection().await;
    for method in ["a", "b", "c"] {
        echo(&service, method).await.unwrap();
    }
    for refused in [
        echo(&service, "d").await.unwrap_err(),
        service.subscribe(["t"]).await.unwrap_err(),
        service.subscribe(["b", "c", "d"]).await.unwrap_err(),
    ] {
        assert!(refused.code() == Code::LIMIT && !refused.may_have_run(), "{refused}");
    }
    echo(&service, "a").await.unwrap();
    // Sending these to the gateway would end the connection.
    let long = "x".repeat(256);
    for refused in [
        echo(&service, &long).await.unwrap_err(),
        service.subscribe([&*long]).await.unwrap_err(),
        service.withdraw(&long).await.unwrap_err(),
    ] {
        assert!(refused.kind() == Kind::TooLarge && !refused.may_have_run(), "{refused}");
    }
    assert_eq!(first.names(), ["a", "b", "c"]);
    assert!(!first.mailbox.is_closed());

    first.command(Command::Close(Code::SHUTDOWN));
    let second = gateway.connection().await;
    assert_eq!(until_names(&service, &second, 3).await, ["a", "b", "c"]);
    // If the limit has become lower, the service offers as many names as fit.
    gateway.max_names.store(2, Ordering::Relaxed);
    second.command(Command::Close(Code::SHUTDOWN));
    let third = gateway.connection().await;
    until_names(&service, &third, 2).await;
    gateway.max_names.store(3, Ordering::Relaxed);
    third.command(Command::Close(Code::SHUTDOWN));
    let fourth = gateway.connection().await;
    until_names(&service, &fourth, 3).await;
}

#[tokio::test]
async fn a_body_over_the_limit_fails_without_closing_the_connection() {
    let mut gateway = Gateway::start(9, 1_000).await;
    let edge = Edge::builder().address(&gateway.address).connect_timeout(PATIENCE).connect().await.unwrap();
    let edge_side = gateway.connection().await;
    let refused = edge.call("echo", vec![0; 1_001]).await.unwrap_err();
    assert!(refused.kind() == Kind::TooLarge && !refused.may_have_run(), "{refused}");
    assert!(edge.publish("topic", vec![0; 1_001]).await.is_err_and(|error| error.kind() == Kind::TooLarge));
    assert_eq!(edge.call("echo", vec![0; 1_000]).await.unwrap().len(), 1_000);
    assert!(!edge_side.mailbox.is_closed());

    let service = gateway.service().await;
    let mut side = gateway.connection().await;
    let zeros = |call: limes_sdk::Call| async move {
        let count = call.body.first().map_or(0, |hundreds| usize::from(*hundreds) * 100);
        Ok(Bytes::from(vec![0; count]))
    };
    service.register("zeros", zeros).await.unwrap();
    for (id, hundreds) in [(1, 11), (2, 10)] {
        let (deadline, body) = (PATIENCE, Bytes::from(vec![hundreds]));
        side.command(Command::Send(Frame::Call(Call {
            id,
            deadline,
            peer: 1,
            method: "zeros".into(),
            body,
        })));
    }
    let mut answers = [side.next_frame().await, side.next_frame().await];
    answers.sort_by_key(|answer| matches!(answer, Frame::Reply(_)));
    let [Frame::Error(error), Frame::Reply(reply)] = answers else { panic!("{answers:?}") };
    assert_eq!((error.id, error.code, error.ran), (1, Code::TOO_LARGE, Execution::Completed), "{error:?}");
    assert_eq!((reply.id, reply.body.len()), (2, 1_000));
}

#[tokio::test]
async fn an_address_that_does_not_answer_takes_only_its_share_of_the_time() {
    // Nothing accepts its connections.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (silent.local_addr().unwrap().to_string(), silent);
    let began = Instant::now();
    let edge = Edge::builder().address(&silent.0).connect_timeout(Duration::from_millis(300));
    let error = edge.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let gateway = Gateway::start(0, 1_000).await;
    let edge = Edge::builder().addresses([&silent.0, &silent.0, &gateway.address].map(String::as_str));
    let edge = edge.connect_timeout(Duration::from_secs(6)).connect().await.unwrap();
    assert_eq!(edge.call("echo", "x").await.unwrap(), "x");
}
