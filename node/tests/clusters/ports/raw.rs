//! A native peer whose bytes a test controls.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use limes_wire::frame::{Call, Frame, GoAway, Hello, Role, Welcome};
use limes_wire::limits::Limits;
use limes_wire::{Conn, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Bed, PATIENCE, until};

/// A native peer whose bytes a test controls.
pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    conn: Conn,
    input: BytesMut,
}

impl Raw {
    pub(crate) async fn connect(address: &str, hello: Hello) -> Raw {
        let socket = TcpStream::connect(address).await.unwrap();
        Raw { socket, conn: Conn::client(hello, Instant::now(), Limits::default()), input: BytesMut::new() }
    }

    /// Connects as soon as the node admits it.
    pub(crate) async fn edge_at_last(address: &str) -> Raw {
        until("the node admits a connection", || async {
            let mut raw = Raw::connect(address, Hello::default()).await;
            matches!(raw.next().await, Some(Event::Welcome(_))).then_some(raw)
        })
        .await
    }

    /// Connects and is welcomed.
    pub(crate) async fn edge(address: &str) -> (Raw, Welcome) {
        let mut raw = Raw::connect(address, Hello::default()).await;
        match raw.next().await {
            Some(Event::Welcome(welcome)) => (raw, *welcome),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn service(address: &str) -> Raw {
        let hello = Hello { role: Role::Service, name: "raw".into(), ..Hello::default() };
        let mut raw = Raw::connect(address, hello).await;
        assert!(matches!(raw.next().await, Some(Event::Welcome(_))));
        raw
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        self.socket.write_all(&encode(frame)).await.unwrap();
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
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
        .expect("an event or the end")
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        match self.next().await {
            Some(Event::Frame(frame)) => frame,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the GoAway with which the node closes.
    pub(crate) async fn farewell(&mut self) -> GoAway {
        loop {
            match self.next().await {
                Some(Event::GoAway(goaway)) => return goaway,
                Some(_) => {}
                None => panic!("closed without a goaway"),
            }
        }
    }
}

/// A call with a body of so many bytes.
pub(crate) fn call(id: u64, method: &str, bytes: usize) -> Frame {
    let body = Bytes::from(vec![7; bytes]);
    Frame::Call(Call { id, deadline: PATIENCE, peer: 0, method: method.into(), body })
}

/// A figure of the first node's `/metrics`.
pub(crate) async fn metric(bed: &Bed, series: &str) -> u64 {
    bed.metric(1, series).await
}

/// The bytes of a frame.
pub(crate) fn encode(frame: Frame) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let body = frame.encode(&mut bytes);
    bytes.extend_from_slice(&body);
    bytes.to_vec()
}

/// One frame of yamux.
pub(crate) fn yamux(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame
}
