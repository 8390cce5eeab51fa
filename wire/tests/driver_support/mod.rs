//! Two driven connections in one test: each end is a [`Peer`] that reports the calls of its handler.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is part of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{Cx, Handler, Mailbox, Native, PeerEvent, RecordStream, Stream, drive};
use limes_wire::frame::{Call, Frame, GoAway, Hello, Reply, Welcome};
use limes_wire::limits::Limits;
use limes_wire::{CloseReason, Code, Conn, Str};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take before a test has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A call of a handler.
#[derive(Debug)]
pub enum Called {
    Hello(Hello),
    Welcome(Welcome),
    Frame(Frame),
    GoAway(GoAway),
    Stream(Stream),
    Timeout,
    Silence(bool),
    Closed(CloseReason, usize),
}

/// A command of a test to a handler.
pub enum Do {
    Send(Frame),
    Open(oneshot::Sender<Result<Stream, Code>>),
    Close(GoAway),
    WakeAt(Instant),
    Panic,
}

/// One end of a connection.
pub struct Peer {
    pub mailbox: Mailbox<Do>,
    pub calls: mpsc::UnboundedReceiver<Called>,
    pub task: JoinHandle<()>,
    /// Its memory is short.
    pub full: Arc<AtomicBool>,
}

/// Answers hellos and calls, reports everything else.
struct Echo {
    calls: mpsc::UnboundedSender<Called>,
    full: Arc<AtomicBool>,
    unread: usize,
}

impl Echo {
    fn report(&self, call: Called) {
        let _ = self.calls.send(call);
    }
}

impl Handler for Echo {
    type Protocol = Native;
    type Message = Do;

    fn on_event(&mut self, event: PeerEvent, cx: &mut Cx<'_>) {
        match event {
            PeerEvent::Hello(hello) => {
                cx.welcome(Welcome { id: 7, ..Welcome::default() });
                self.report(Called::Hello(*hello));
            }
            PeerEvent::Welcome(welcome) => self.report(Called::Welcome(*welcome)),
            PeerEvent::Frame(Frame::Call(call)) => {
                cx.send(Frame::Reply(Reply { id: call.id, body: call.body }));
            }
            PeerEvent::Frame(frame) => self.report(Called::Frame(frame)),
            PeerEvent::GoAway(goaway) => self.report(Called::GoAway(goaway)),
            PeerEvent::Stream(stream) => self.report(Called::Stream(stream)),
            PeerEvent::Silence(silent) => self.report(Called::Silence(silent)),
        }
    }

    fn on_message(&mut self, message: Do, cx: &mut Cx<'_>) {
        match message {
            Do::Send(frame) => {
                cx.send(frame);
            }
            Do::Open(reply) => cx.open_stream(move |opened| {
                let _ = reply.send(opened);
            }),
            Do::Close(goaway) => cx.close(goaway),
            Do::WakeAt(at) => cx.wake_at(at),
            Do::Panic => panic!("the test asked for a panic"),
        }
    }

    fn on_timeout(&mut self, _: Instant, _: &mut Cx<'_>) {
        self.report(Called::Timeout);
    }

    fn may_hold(&self) -> bool {
        !self.full.load(Ordering::Relaxed)
    }

    fn on_closing(&mut self, unread: Vec<Do>) {
        self.unread = unread.len();
    }

    fn on_close(self, reason: CloseReason) {
        self.report(Called::Closed(reason, self.unread));
    }
}

impl Peer {
    pub fn start<IO>(io: IO, conn: Conn) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, calls) = mpsc::unbounded_channel();
        let (mailbox, full) = (Mailbox::new(), Arc::<AtomicBool>::default());
        let echo = Echo { calls: sender, full: full.clone(), unread: 0 };
        let task = tokio::spawn(drive(io, conn, echo, mailbox.clone()));
        Peer { mailbox, calls, task, full }
    }

    pub fn client<IO>(io: IO) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Peer::start(io, Conn::client(Hello::default(), now(), Limits::default()))
    }

    pub fn server<IO>(io: IO) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Peer::start(io, Conn::server(now(), Limits::default()))
    }

    /// The next call of the handler, within [`PATIENCE`].
    pub async fn next(&mut self) -> Called {
        timeout(PATIENCE, self.calls.recv())
            .await
            .expect("the handler was not called in time")
            .expect("the task is gone")
    }

    /// Skips until the connection is closed.
    pub async fn closed(&mut self) -> (CloseReason, usize) {
        loop {
            if let Called::Closed(reason, leftover) = self.next().await {
                return (reason, leftover);
            }
        }
    }

    /// Skips until the peer opens a stream.
    pub async fn stream(&mut self) -> RecordStream {
        loop {
            match self.next().await {
                Called::Stream(stream) => return RecordStream::new(stream),
                Called::Closed(reason, _) => panic!("closed: {reason}"),
                _ => {}
            }
        }
    }

    /// Skips until a frame arrives.
    pub async fn frame(&mut self) -> Frame {
        loop {
            match self.next().await {
                Called::Frame(frame) => return frame,
                Called::Closed(reason, _) => panic!("closed: {reason}"),
                _ => {}
            }
        }
    }

    pub fn send(&self, frame: Frame) {
        assert!(self.mailbox.push_always(Do::Send(frame)), "the connection is closed");
    }

    pub async fn open(&self) -> Result<RecordStream, Code> {
        let (reply, opened) = oneshot::channel();
        assert!(self.mailbox.push_always(Do::Open(reply)), "the connection is closed");
        let opened = timeout(PATIENCE, opened).await.expect("not opened in time");
        opened.expect("the opening was dropped").map(RecordStream::new)
    }
}

/// The clock that the driver reads.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Two ends, after their handshake, joined by a pipe in memory that holds `room` bytes.
pub async fn pair(room: usize) -> (Peer, Peer) {
    let (near, far) = tokio::io::duplex(room);
    greet(near, far).await
}

/// A client and a server on these transports, after the handshake.
pub async fn greet<IO>(near: IO, far: IO) -> (Peer, Peer)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut client, mut server) = (Peer::client(near), Peer::server(far));
    assert!(matches!(server.next().await, Called::Hello(_)));
    assert!(matches!(client.next().await, Called::Welcome(Welcome { id: 7, .. })));
    (client, server)
}

/// A client whose other end is the bare bytes, after the handshake.
pub async fn bare_server(room: usize) -> (Peer, DuplexStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (near, mut far) = tokio::io::duplex(room);
    let mut server = Peer::server(near);
    let mut client = Conn::client(Hello::default(), now(), Limits::default());
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    let count = client.chunks(&mut slices);
    let hello: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
    far.write_all(&hello).await.unwrap();
    assert!(matches!(server.next().await, Called::Hello(_)));
    let mut bytes = bytes::BytesMut::new();
    while !client.is_open() {
        far.read_buf(&mut bytes).await.unwrap();
        client.next(now(), &mut bytes).unwrap();
    }
    (server, far)
}

/// Two ends of a socket on loopback.
pub async fn sockets() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (near, far) = tokio::join!(limes_wire::transport::dial(&addr, PATIENCE), listener.accept());
    let far = far.unwrap().0;
    limes_wire::transport::tune(&far).unwrap();
    (near.unwrap(), far)
}

/// A call with this body.
pub fn call(id: u64, body: impl Into<Bytes>) -> Frame {
    let method = Str::from_static("echo");
    Frame::Call(Call { id, deadline: Duration::from_secs(5), peer: 0, method, body: body.into() })
}

/// A frame as bytes on the wire.
pub fn encode(frame: Frame) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    let body = frame.encode(&mut bytes);
    bytes.extend_from_slice(&body);
    bytes.to_vec()
}

/// A stream between two peers, opened and accepted.
pub async fn stream_between(opener: &Peer, taker: &mut Peer) -> (RecordStream, RecordStream) {
    use limes_wire::stream::Open;
    let mut near = opener.open().await.unwrap();
    near.write_open(&Open { name: "pipe".into(), ..Open::default() }).await.unwrap();
    let mut far = taker.stream().await;
    assert_eq!(&*far.read_open().await.unwrap().name, "pipe");
    far.write_accept(b"come in").await.unwrap();
    assert_eq!(near.read_accept().await.unwrap(), "come in");
    (near, far)
}

/// Bytes that depend on their position.
pub fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at / 3 + at % 251) as u8).collect()
}

/// An edge and a service, each connected to the gateway between them.
pub struct Gateway {
    pub edge: Peer,
    pub edge_side: Peer,
    pub service_side: Peer,
    pub service: Peer,
}

impl Gateway {
    /// Over loopback.
    pub async fn new() -> Self {
        let (near, far) = sockets().await;
        let (edge, edge_side) = greet(near, far).await;
        let (near, far) = sockets().await;
        let (service, service_side) = greet(near, far).await;
        Gateway { edge, edge_side, service_side, service }
    }

    /// Over pipes in memory that hold `room` bytes.
    pub async fn with_room(room: usize) -> Self {
        let (edge, edge_side) = pair(room).await;
        let (service, service_side) = pair(room).await;
        Gateway { edge, edge_side, service_side, service }
    }

    /// A stream from edge to service; the last is the gateway's task, which gives the bytes carried.
    pub async fn stream(&mut self) -> (RecordStream, RecordStream, JoinHandle<u64>) {
        let mut near = self.edge.open().await.unwrap();
        near.write_open(&Default::default()).await.unwrap();
        let mut from = self.edge_side.stream().await;
        let open = from.read_open().await.unwrap();
        let mut to = self.service_side.open().await.unwrap();
        to.write_open(&open).await.unwrap();
        let task = tokio::spawn(limes_wire::driver::relay(from.into_raw(), to.into_raw()));
        let mut far = self.service.stream().await;
        far.read_open().await.unwrap();
        far.write_accept(b"").await.unwrap();
        near.read_accept().await.unwrap();
        (near, far, task)
    }
}
