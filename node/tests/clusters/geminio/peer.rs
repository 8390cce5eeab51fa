//! A client of the geminio protocol that sends only what a test tells it to.

use bytes::{Bytes, BytesMut};
use limes_wire::geminio::{Body, ConnData, HEADER, Header, MessageData, Packet, StreamPacket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Bed, PATIENCE};

/// The heartbeat code for 320 s: the gateway does not close a silent connection during a test.
const RARE_HEARTBEAT: u8 = 3;

/// One connection. It sends no heartbeats and acknowledges nothing by itself.
pub(super) struct Peer(TcpStream);

impl Peer {
    /// Connects as an edge and does not wait for the answer.
    pub(super) async fn edge(address: &str, meta: &str) -> Peer {
        Peer::connect(address, meta.to_owned(), 0).await
    }

    /// Connects as a service that asks for an id (0: any) and does not wait for the answer.
    pub(super) async fn unnamed_service(address: &str, id: u64) -> Peer {
        Peer::connect(address, r#"{"service":"","topics":null}"#.to_owned(), id).await
    }

    async fn connect(address: &str, meta: String, client: u64) -> Peer {
        let mut peer = Peer(TcpStream::connect(address).await.unwrap());
        let data = ConnData { meta: meta.into(), ..ConnData::default() };
        peer.send(1, Body::Conn { acquire: true, heartbeat: RARE_HEARTBEAT, client, data }).await;
        peer
    }

    /// A service that has registered a method of its own name.
    pub(super) async fn service(bed: &Bed, node: usize, name: &str) -> Peer {
        let meta = format!(r#"{{"service":"{name}","topics":null}}"#);
        let mut service = Peer::connect(&bed.services(node), meta, 0).await;
        service.accepted().await;
        service.send(2, Body::Stream(1, StreamPacket::Register(name.to_owned().into()))).await;
        service.packet().await;
        service
    }

    pub(super) async fn send(&mut self, id: u64, body: Body) {
        let mut out = BytesMut::new();
        let payload = Packet { id, body }.encode(&mut out).unwrap();
        out.extend_from_slice(&payload);
        self.0.write_all(&out).await.unwrap();
    }

    /// The next packet; `None` when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Packet> {
        let mut head = [0; HEADER];
        timeout(PATIENCE, self.0.read_exact(&mut head)).await.expect("a packet or the end").ok()?;
        let header = Header::decode(head).unwrap();
        let mut body = vec![0; header.len];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.expect("the rest of a packet").ok()?;
        Some(Packet::decode(header, body.into()).unwrap())
    }

    /// The next packet of a connection that must be open.
    pub(super) async fn packet(&mut self) -> Packet {
        self.next().await.expect("the connection is open")
    }

    /// Waits until the gateway has accepted the connection; gives the client's id.
    pub(super) async fn accepted(&mut self) -> u64 {
        match self.packet().await.body {
            Body::ConnAck { refused: false, client, .. } => client,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a call and answers it.
    pub(super) async fn answer(&mut self, value: &'static str) {
        match self.packet().await {
            Packet { id, body: Body::Stream(1, StreamPacket::Request(call)) } => {
                self.respond(id, call, value).await
            }
            other => panic!("no call but {other:?}"),
        }
    }

    /// Answers a call.
    pub(super) async fn respond(&mut self, id: u64, call: MessageData, value: &'static str) {
        let value = Bytes::from_static(value.as_bytes());
        let data = MessageData { key: call.key, value, ..MessageData::default() };
        self.send(id, Body::Stream(1, StreamPacket::Response(data))).await;
    }
}
