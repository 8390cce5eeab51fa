//! What relayed stream bytes cost the gateway's threads, beside a bare relay over the yamux crate,
//! and what an idle connection weighs. Loopback TCP, one stream, 16 KiB writes.
//!
//! Left out: routing, metrics, TLS. The ends run in a thread of their own, which is not counted.
//! `cargo bench -p limes-wire --features tokio --bench streams`
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a measuring tool")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::poll_fn;
use limes_wire::driver::{Cx, Handler, Mailbox, Native, PeerEvent, RecordStream, Stream, drive, relay};
use limes_wire::frame::{Hello, Welcome};
use limes_wire::limits::Limits;
use limes_wire::stream::Open;
use limes_wire::transport::tune;
use limes_wire::{CloseReason, Conn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

const WARM: Duration = Duration::from_millis(500);
const RUN: Duration = Duration::from_secs(3);
const WRITE: usize = 16 << 10;
const IDLE: usize = 4_000;

static GOT: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

/// Opens a stream on command; passes on those that the peer opens.
struct End(mpsc::UnboundedSender<Stream>);

impl Handler for End {
    type Protocol = Native;
    type Message = oneshot::Sender<Stream>;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Hello(_) => cx.welcome(Welcome::default()),
            PeerEvent::Stream(stream) => self.0.send(stream).unwrap(),
            _ => {}
        }
    }

    fn on_message(&mut self, message: Self::Message, cx: &mut Cx<'_>) {
        cx.open_stream(|opened| drop(message.send(opened.unwrap())));
    }

    fn on_timeout(&mut self, _: Instant, _: &mut Cx<'_>) {}
    fn on_closing(&mut self, _: Vec<Self::Message>) {}
    fn on_close(self, _: CloseReason) {}
}

/// Does nothing: what is left is the driver's.
struct Quiet;

impl Handler for Quiet {
    type Protocol = Native;
    type Message = ();

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        if let PeerEvent::Hello(_) = event {
            cx.welcome(Welcome::default());
        }
    }

    fn on_message(&mut self, (): (), _: &mut Cx<'_>) {}
    fn on_timeout(&mut self, _: Instant, _: &mut Cx<'_>) {}
    fn on_closing(&mut self, _: Vec<()>) {}
    fn on_close(self, _: CloseReason) {}
}

type Driven = (Mailbox<oneshot::Sender<Stream>>, mpsc::UnboundedReceiver<Stream>);

fn start(socket: TcpStream, client: bool) -> Driven {
    tune(&socket).unwrap();
    let (sender, streams) = mpsc::unbounded_channel();
    let mailbox = Mailbox::new();
    let conn = match client {
        true => Conn::client(Hello::default(), Instant::now(), Limits::default()),
        false => Conn::server(Instant::now(), Limits::default()),
    };
    tokio::spawn(drive(socket, conn, End(sender), mailbox.clone()));
    (mailbox, streams)
}

async fn open((mailbox, _): &Driven) -> RecordStream {
    let (reply, opened) = oneshot::channel();
    mailbox.push_always(reply);
    RecordStream::new(opened.await.unwrap())
}

/// The gateway: the first connection's stream goes on to the second.
async fn driven_gateway(listener: TcpListener) {
    let mut near = start(listener.accept().await.unwrap().0, false);
    let far = start(listener.accept().await.unwrap().0, false);
    let from = RecordStream::new(near.1.recv().await.unwrap()).into_raw();
    relay(from, open(&far).await.into_raw()).await;
}

async fn driven_ends(addr: SocketAddr) {
    let near = start(TcpStream::connect(addr).await.unwrap(), true);
    let mut far = start(TcpStream::connect(addr).await.unwrap(), true);
    let mut writer = open(&near).await;
    writer.write_open(&Open::default()).await.unwrap();
    let mut reader = RecordStream::new(far.1.recv().await.unwrap());
    reader.read_open().await.unwrap();
    reader.write_accept(&[]).await.unwrap();
    writer.read_accept().await.unwrap();
    tokio::join!(produce(writer), consume(reader));
}

async fn produce(mut to: impl tokio::io::AsyncWrite + Unpin) {
    let piece = [7; WRITE];
    while !STOP.load(Ordering::Relaxed) {
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
}

async fn consume(mut from: impl tokio::io::AsyncRead + Unpin) {
    let mut buf = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buf).await {
        GOT.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// A bare yamux session in a task; streams out when asked for, in as they come.
fn bare(
    socket: TcpStream,
    mode: yamux::Mode,
) -> (mpsc::Sender<oneshot::Sender<yamux::Stream>>, mpsc::Receiver<yamux::Stream>) {
    tune(&socket).unwrap();
    let mut session = yamux::Connection::new(socket.compat(), yamux::Config::default(), mode);
    let (ask, mut asked) = mpsc::channel::<oneshot::Sender<yamux::Stream>>(1);
    let (come, came) = mpsc::channel(1);
    tokio::spawn(poll_fn(move |cx| {
        if let std::task::Poll::Ready(Some(reply)) = asked.poll_recv(cx)
            && let std::task::Poll::Ready(Ok(stream)) = session.poll_new_outbound(cx)
        {
            let _ = reply.send(stream);
        }
        while let std::task::Poll::Ready(inbound) = session.poll_next_inbound(cx) {
            let Some(Ok(stream)) = inbound else { return std::task::Poll::Ready(()) };
            let _ = come.try_send(stream);
        }
        std::task::Poll::Pending
    }));
    (ask, came)
}

async fn bare_gateway(listener: TcpListener) {
    let mut near = bare(listener.accept().await.unwrap().0, yamux::Mode::Server);
    let far = bare(listener.accept().await.unwrap().0, yamux::Mode::Server);
    let mut from = near.1.recv().await.unwrap().compat();
    let (reply, opened) = oneshot::channel();
    far.0.send(reply).await.unwrap();
    let mut to = opened.await.unwrap().compat();
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut from, &mut to, 32 << 10, 32 << 10).await;
}

async fn bare_ends(addr: SocketAddr) {
    let near = bare(TcpStream::connect(addr).await.unwrap(), yamux::Mode::Client);
    let mut far = bare(TcpStream::connect(addr).await.unwrap(), yamux::Mode::Client);
    let (reply, opened) = oneshot::channel();
    near.0.send(reply).await.unwrap();
    let writer = opened.await.unwrap().compat();
    let reader = async { consume(far.1.recv().await.unwrap().compat()).await };
    tokio::join!(produce(writer), reader);
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

fn measure(name: &'static str, driven: bool) {
    STOP.store(false, Ordering::Relaxed);
    let (gateway, ends) = (runtime(name, 1), runtime("ends", 1));
    let listener = gateway.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    if driven {
        gateway.spawn(driven_gateway(listener));
        ends.spawn(driven_ends(addr));
    } else {
        gateway.spawn(bare_gateway(listener));
        ends.spawn(bare_ends(addr));
    }
    std::thread::sleep(WARM);
    let (bytes, began, used) = (GOT.load(Ordering::Relaxed), Instant::now(), cpu(name));
    std::thread::sleep(RUN);
    let megabytes = (GOT.load(Ordering::Relaxed) - bytes) as f64 / 1e6;
    let (wall, used) = (began.elapsed().as_secs_f64(), (cpu(name) - used).as_secs_f64());
    println!("{name:>8} relay: {:>5.0} MB/s, {:.2} CPU ms per MB", megabytes / wall, used * 1e3 / megabytes);
    STOP.store(true, Ordering::Relaxed);
    ends.shutdown_timeout(Duration::from_secs(1));
    gateway.shutdown_timeout(Duration::from_secs(1));
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

fn idle() {
    let runtime = runtime("idle", 1);
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut sockets = Vec::new();
        for _ in 0..IDLE {
            let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
            sockets.push((near.unwrap(), far.unwrap().0));
        }
        let before = resident();
        let mut ends = Vec::new();
        for (near, far) in sockets {
            let client = Conn::client(Hello::default(), Instant::now(), Limits::default());
            let server = Conn::server(Instant::now(), Limits::default());
            for (socket, conn) in [(near, client), (far, server)] {
                let mailbox = Mailbox::new();
                tokio::spawn(drive(socket, conn, Quiet, mailbox.clone()));
                ends.push(mailbox);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let conn = Conn::server(Instant::now(), Limits::default());
        let (size, mailbox) = (size_of_val(&conn), Mailbox::new());
        let task = size_of_val(&drive(tokio::io::empty(), conn, Quiet, mailbox));
        println!("a task of {task} bytes, {size} of them the protocol's state");
        let each = (resident() - before) / (2 * IDLE);
        println!("an idle connection: {each} bytes of memory, its task included");
        drop(ends);
    });
}

fn main() {
    idle();
    for _ in 0..2 {
        measure("bare", false);
        measure("driven", true);
    }
}
