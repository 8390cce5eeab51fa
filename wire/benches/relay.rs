//! What one relayed call costs the gateway's threads: 64 calls in flight, 64 bytes each way, over
//! loopback TCP, through handlers that only change the id.
//!
//! Left out: routing, deadlines, metrics, TLS. Edges and the service run in threads of their own,
//! which are not counted. `cargo bench -p limes-wire --features tokio --bench relay`
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a measuring tool")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{Cx, Handler, Mailbox, Native, PeerEvent, drive};
use limes_wire::frame::{Call, Frame, Hello, Reply, Role, Welcome};
use limes_wire::limits::Limits;
use limes_wire::transport::tune;
use limes_wire::{CloseReason, Conn, Str};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

const WARM: Duration = Duration::from_millis(500);
const RUN: Duration = Duration::from_secs(3);

static DONE: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

/// What the gateway's sessions tell each other.
enum Forward {
    Call(Mailbox<Forward>, Call),
    Reply(Reply),
}

/// The gateway's side of one connection.
struct Session {
    own: Mailbox<Forward>,
    service: Arc<OnceLock<Mailbox<Forward>>>,
    waiting: HashMap<u64, (Mailbox<Forward>, u64)>,
    next: u64,
}

impl Handler for Session {
    type Protocol = Native;
    type Message = Forward;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Hello(hello) => {
                if hello.role == Role::Service {
                    let _ = self.service.set(self.own.clone());
                }
                cx.welcome(Welcome::default());
            }
            PeerEvent::Frame(Frame::Call(call)) => {
                let bytes = call.body.len();
                let _ = self.service.get().unwrap().push(Forward::Call(self.own.clone(), call), bytes);
            }
            PeerEvent::Frame(Frame::Reply(reply)) => {
                if let Some((edge, id)) = self.waiting.remove(&reply.id) {
                    edge.push_always(Forward::Reply(Reply { id, ..reply }));
                }
            }
            _ => {}
        }
    }

    fn on_message(&mut self, message: Forward, cx: &mut Cx<'_>) {
        match message {
            Forward::Call(edge, call) => {
                self.next += 1;
                self.waiting.insert(self.next, (edge, call.id));
                cx.send(Frame::Call(Call { id: self.next, ..call }));
            }
            Forward::Reply(reply) => {
                cx.send(Frame::Reply(reply));
            }
        }
    }

    fn on_timeout(&mut self, _: Instant, _: &mut Cx<'_>) {}
    fn on_closing(&mut self, _: Vec<Forward>) {}
    fn on_close(self, _: CloseReason) {}
}

/// The load: a service that echoes, or an edge that keeps a number of calls in flight.
struct Client {
    in_flight: u64,
}

fn call(id: u64) -> Frame {
    static BODY: [u8; 64] = [7; 64];
    Frame::Call(Call {
        id,
        deadline: Duration::from_secs(5),
        peer: 0,
        method: Str::from_static("echo"),
        body: Bytes::from_static(&BODY),
    })
}

impl Handler for Client {
    type Protocol = Native;
    type Message = ();

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Welcome(_) => {
                for id in 1..=self.in_flight {
                    cx.send(call(id));
                }
            }
            PeerEvent::Frame(Frame::Call(call)) => {
                cx.send(Frame::Reply(Reply { id: call.id, body: call.body }));
            }
            PeerEvent::Frame(Frame::Reply(reply)) if !STOP.load(Ordering::Relaxed) => {
                DONE.fetch_add(1, Ordering::Relaxed);
                cx.send(call(reply.id));
            }
            _ => {}
        }
    }

    fn on_message(&mut self, (): (), _: &mut Cx<'_>) {}
    fn on_timeout(&mut self, _: Instant, _: &mut Cx<'_>) {}
    fn on_closing(&mut self, _: Vec<()>) {}
    fn on_close(self, _: CloseReason) {}
}

fn runtime(name: &str, threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build().unwrap()
}

/// CPU time of the threads of that name, system calls included.
fn cpu(name: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |task: std::fs::DirEntry| {
        let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        (comm.trim() == name).then(|| stat.split(' ').next().unwrap().parse::<u64>().unwrap())
    };
    Duration::from_nanos(tasks.filter_map(of).sum())
}

async fn connect(addr: std::net::SocketAddr, role: Role, in_flight: u64) {
    let socket = TcpStream::connect(addr).await.unwrap();
    tune(&socket).unwrap();
    let hello = Hello { role, name: "echo".into(), ..Hello::default() };
    let conn = Conn::client(hello, Instant::now(), Limits::default());
    tokio::spawn(drive(socket, conn, Client { in_flight }, Mailbox::new()));
}

fn measure(name: &'static str, threads: usize, edges: u64, in_flight: u64) {
    STOP.store(false, Ordering::Relaxed);
    let gateway = runtime(name, threads);
    let load = runtime("load", 1);
    let service = Arc::new(OnceLock::new());
    let seen = service.clone();
    let listener = gateway.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    gateway.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tune(&socket).unwrap();
            let own = Mailbox::new();
            let session =
                Session { own: own.clone(), service: service.clone(), waiting: HashMap::new(), next: 0 };
            tokio::spawn(drive(socket, Conn::server(Instant::now(), Limits::default()), session, own));
        }
    });
    load.block_on(async {
        connect(addr, Role::Service, 0).await;
        while seen.get().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..edges {
            connect(addr, Role::Edge, in_flight).await;
        }
    });
    std::thread::sleep(WARM);
    let (calls, began, used) = (DONE.load(Ordering::Relaxed), Instant::now(), cpu(name));
    std::thread::sleep(RUN);
    let calls = DONE.load(Ordering::Relaxed) - calls;
    let (wall, used) = (began.elapsed(), cpu(name) - used);
    println!(
        "{edges:>3} edges x {in_flight:>2} in flight, gateway of {threads} threads: {:>7.0} calls/s, {:.2} µs CPU a call",
        calls as f64 / wall.as_secs_f64(),
        used.as_secs_f64() * 1e6 / calls as f64,
    );
    STOP.store(true, Ordering::Relaxed);
    load.shutdown_timeout(Duration::from_secs(1));
    gateway.shutdown_timeout(Duration::from_secs(1));
}

fn main() {
    measure("gate-a", 1, 1, 64);
    measure("gate-b", 1, 16, 4);
    measure("gate-c", 2, 1, 64);
    measure("gate-d", 2, 16, 4);
    measure("gate-e", 1, 1, 1);
}
