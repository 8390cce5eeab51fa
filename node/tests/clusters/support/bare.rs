//! A native client that sends only what a test tells it to; it never reconnects.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use limes_sdk::Bytes;
use limes_wire::conn::MAGIC;
use limes_wire::frame::{Call, Frame, GoAway, HEADER, Header, Hello, Message, Names, Reply, Role, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// The next id of a call; each is used once (PROTOCOL 4.1).
static NUMBERS: AtomicU64 = AtomicU64::new(1_000_000);

/// One connection, after its Welcome.
pub(crate) struct Bare {
    socket: TcpStream,
    pub(crate) welcome: Welcome,
}

impl Bare {
    /// An edge.
    pub(crate) async fn edge(address: &str) -> Bare {
        Bare::connect(address, Hello::default()).await.expect("welcomed")
    }

    /// An edge that presents a ticket.
    pub(crate) async fn again(address: &str, ticket: &Bytes, moving: bool) -> Bare {
        let hello = Hello { ticket: ticket.clone(), moving, ..Hello::default() };
        Bare::connect(address, hello).await.expect("welcomed")
    }

    /// A service that offers one method.
    pub(crate) async fn service(address: &str, name: &str, method: &'static str) -> Bare {
        let hello = Hello { role: Role::Service, name: name.to_owned(), ..Hello::default() };
        let mut service = Bare::connect(address, hello).await.expect("welcomed");
        service.send(Frame::Register(Names { id: 1, names: vec![method.into()] })).await;
        let done = service.read().await;
        assert!(matches!(done, Some(Frame::Done(_))), "{done:?}");
        service
    }

    /// Sends the hello. The error is the gateway's GoAway, if it sent one.
    pub(crate) async fn connect(address: &str, hello: Hello) -> Result<Bare, Option<GoAway>> {
        let mut socket = TcpStream::connect(address).await.map_err(|_| None)?;
        let mut bytes = BytesMut::from(&MAGIC[..]);
        // The gateway must not close a connection whose test reads late.
        let body = Frame::Hello(Box::new(Hello { keepalive: PATIENCE, ..hello })).encode(&mut bytes);
        bytes.extend_from_slice(&body);
        socket.write_all(&bytes).await.map_err(|_| None)?;
        match timeout(PATIENCE, read(&mut socket)).await.expect("an answer to the hello") {
            Some(Frame::Welcome(welcome)) => Ok(Bare { socket, welcome: *welcome }),
            Some(Frame::GoAway(goaway)) => Err(Some(goaway)),
            _ => Err(None),
        }
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        let body = frame.encode(&mut bytes);
        bytes.extend_from_slice(&body);
        self.socket.write_all(&bytes).await.expect("the gateway reads");
    }

    /// Publishes numbered messages without waiting for their acks.
    pub(crate) async fn publish(&mut self, topic: &str, numbers: std::ops::Range<u64>) {
        let mut bytes = BytesMut::new();
        for id in numbers {
            let body = Bytes::copy_from_slice(&id.to_be_bytes());
            let message = Message { id, deadline: PATIENCE, peer: 0, topic: topic.into(), body };
            let body = Frame::Message(message).encode(&mut bytes);
            bytes.extend_from_slice(&body);
        }
        self.socket.write_all(&bytes).await.expect("the gateway reads");
    }

    /// Subscribes to a topic.
    pub(crate) async fn subscribe(&mut self, topic: &str) {
        self.send(Frame::Subscribe(Names { id: 1, names: vec![topic.into()] })).await;
        let done = self.read().await;
        assert!(matches!(done, Some(Frame::Done(_))), "{done:?}");
    }

    /// The next frame other than keepalives; `None` when the connection has ended.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        loop {
            match timeout(PATIENCE, read(&mut self.socket)).await.expect("a frame or an end")? {
                Frame::Ping { nonce } => self.send(Frame::Pong { nonce }).await,
                Frame::Pong { .. } => {}
                frame => return Some(frame),
            }
        }
    }

    /// Calls a method of an edge, or of any service (peer 0), and waits for the reply or the error.
    pub(crate) async fn call(&mut self, peer: u64, method: &'static str, deadline: Duration) -> Frame {
        let (id, body) = (NUMBERS.fetch_add(1, Ordering::Relaxed), Bytes::from_static(b"x"));
        self.send(Frame::Call(Call { id, deadline, peer, method: method.into(), body })).await;
        self.read().await.expect("an answer")
    }

    /// Waits for a call and returns it without an answer.
    pub(crate) async fn called(&mut self) -> Call {
        match self.read().await {
            Some(Frame::Call(call)) => call,
            other => panic!("no call but {other:?}"),
        }
    }

    /// Answers a call with its own body.
    pub(crate) async fn reply(&mut self, call: Call) {
        self.send(Frame::Reply(Reply { id: call.id, body: call.body })).await;
    }

    /// Waits for a GoAway.
    pub(crate) async fn goaway(&mut self) -> GoAway {
        match self.read().await {
            Some(Frame::GoAway(goaway)) => goaway,
            other => panic!("no goaway but {other:?}"),
        }
    }
}

/// One frame from a socket; `None` when it has ended.
async fn read(socket: &mut TcpStream) -> Option<Frame> {
    loop {
        let mut header = [0; HEADER];
        socket.read_exact(&mut header).await.ok()?;
        let header = Header::decode(header);
        let mut rest = vec![0; header.frame_len() - HEADER];
        socket.read_exact(&mut rest).await.ok()?;
        let body = rest.split_off(usize::from(header.head));
        if let Some(frame) = Frame::decode(header, rest.into(), body.into()).expect("a valid frame") {
            return Some(frame);
        }
    }
}
