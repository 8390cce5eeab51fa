//! A service's session on a connection in memory. The test is its peer; time is simulated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use limes_routing::{EdgeId, Incarnation};
use limes_wire::Code;
use limes_wire::driver::{Mailbox, drive};
use limes_wire::frame::{GoAway, Role, Welcome};
use limes_wire::geminio::{
    Body, Conn, ConnData, DEFAULT_SESSION, Event, HEADER, Header, MessageData, Packet, SessionData, Time,
    Word,
};
use limes_wire::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::GeminioSession;
use crate::config::{Cap, HashBy, NodeConfig};
use crate::router::edge_routes::EdgeLocation;
use crate::router::message::{
    Answer, Delivery, GeminioMessage, Message, NativeMessage, Request, SessionCommand, SessionHandle,
    TaskHandle,
};
use crate::server::assemble::Components;
use crate::session::state::State;
use crate::transport::connection_limiter::ConnectionLimiter;

/// The edge that the service here calls.
const EDGE: u64 = 1_001;
/// An address whose last four bytes differ from what the native rule hashes.
const REMOTE: &str = "[2001:db8::a:1:2]:4444";

/// The client of a service, and the session that the gateway runs for it.
struct Bench {
    socket: DuplexStream,
    handle: TaskHandle<GeminioMessage>,
    /// The mailbox of the session of [`EDGE`].
    edge: Mailbox<NativeMessage>,
}

impl Bench {
    /// A service that has just been welcomed.
    async fn new() -> Bench {
        let mut config = NodeConfig::default();
        config.exchange.hashby = HashBy::SrcIp;
        let node = Components::new(Arc::new(config));
        let (edge, mailbox, incarnation) = (Mailbox::new(), Mailbox::new(), Incarnation::default());
        let handle = TaskHandle::new(mailbox.clone());
        let to_edge = SessionHandle::Native(TaskHandle::new(edge.clone()));
        node.mesh.edges.set(EdgeId(EDGE), EdgeLocation::Local { incarnation, handle: to_edge });
        let remote: SocketAddr = REMOTE.parse().unwrap();
        let permit = ConnectionLimiter::new(Cap::Unlimited, 9).admit(remote.ip()).unwrap();
        let mut session = GeminioSession::new(node.session, Role::Service, handle.clone(), remote, permit);
        // The test stands in for the admission.
        session.core.state = State::Admitting;
        let now = tokio::time::Instant::now().into_std();
        let mut conn = Conn::server(now, Limits::default());
        let hello = Body::Conn { acquire: true, heartbeat: 3, client: 0, data: ConnData::default() };
        let event = conn.next(now, &mut encode(1, hello)).unwrap();
        assert!(matches!(event, Some(Event::Hello(_))));
        let (socket, other) = tokio::io::duplex(1 << 20);
        tokio::spawn(drive(other, conn, session, mailbox));
        let welcome = Welcome { id: 77, ..Welcome::default() };
        assert!(handle.command(SessionCommand::Welcome(Box::new(welcome))));
        let mut bench = Bench { socket, handle, edge };
        assert!(matches!(
            bench.receive().await,
            Some(Packet { id: 1, body: Body::ConnAck { refused: false, .. } })
        ));
        bench
    }

    async fn send(&mut self, id: u64, body: Body) {
        self.socket.write_all(&encode(id, body)).await.unwrap();
    }

    /// The gateway's next packet; `None`: it has closed.
    async fn receive(&mut self) -> Option<Packet> {
        let mut head = [0; HEADER];
        self.socket.read_exact(&mut head).await.ok()?;
        let header = Header::decode(head).unwrap();
        let mut body = vec![0; header.len];
        self.socket.read_exact(&mut body).await.ok()?;
        Some(Packet::decode(header, body.into()).unwrap())
    }

    /// Calls the edge, with a deadline after `time`.
    async fn call(&mut self, id: u64, time: Option<Duration>) {
        let data = MessageData {
            key: Bytes::from_static(b"echo"),
            custom: Bytes::copy_from_slice(&EDGE.to_be_bytes()),
            deadline: time.map(|time| Time::after(SystemTime::now(), time)),
            ..MessageData::default()
        };
        self.send(id, Body::On(DEFAULT_SESSION, Word::Request(data))).await;
    }

    async fn publish(&mut self, id: u64) {
        let custom = Bytes::copy_from_slice(&EDGE.to_be_bytes());
        let data = MessageData { custom, ..MessageData::default() };
        self.send(id, Body::On(DEFAULT_SESSION, Word::Message(data))).await;
    }

    /// Waits for requests in the edge's mailbox, and takes them.
    async fn delivered(&self) -> Vec<Request> {
        for _ in 0..100 {
            let messages = self.edge.take_all();
            let requests: Vec<Request> = messages
                .into_iter()
                .filter_map(|message| match message.into_delivery() {
                    Some(Delivery::Request(request)) => Some(*request),
                    _ => None,
                })
                .collect();
            if !requests.is_empty() {
                return requests;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the edge got no request");
    }

    /// The next answer: its packet's id, its value and its error.
    async fn answer(&mut self) -> (u64, Bytes, String) {
        match self.receive().await {
            Some(Packet { id, body: Body::On(1, Word::Response(data) | Word::MessageAck(data)) }) => {
                (id, data.value, data.error)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn encode(id: u64, body: Body) -> BytesMut {
    let mut out = BytesMut::new();
    let payload = Packet { id, body }.encode(&mut out).unwrap();
    out.extend_from_slice(&payload);
    out
}

fn reply(request: &Request, value: &'static str) {
    request.origin.answer(request.id, Answer::Reply(value.into()));
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_call_ends_at_the_earlier_deadline_and_names_it() {
    let (own, ours) = ("context deadline exceeded", "timeout");
    for (time, text, ends) in [
        (Some(millis(2_000)), own, millis(2_000)),
        (Some(millis(60_000)), ours, millis(30_000)),
        (None, ours, millis(30_000)),
        // A deadline in the past shows that the clocks differ, and is not applied.
        (Some(Duration::ZERO), ours, millis(30_000)),
    ] {
        let mut bench = Bench::new().await;
        let began = tokio::time::Instant::now();
        bench.call(5, time).await;
        assert_eq!(bench.answer().await, (5, Bytes::new(), text.to_owned()), "{time:?}");
        let took = began.elapsed();
        assert!(
            took >= ends.saturating_sub(millis(500)) && took <= ends + millis(100),
            "{took:?} of {time:?}"
        );
    }
}

/// The reference uses the last four bytes of the address, also over IPv6. Another rule would break affinity.
#[tokio::test(start_paused = true)]
async fn requests_are_spread_by_the_rule_of_the_reference() {
    let mut bench = Bench::new().await;
    bench.call(5, None).await;
    assert_eq!(bench.delivered().await[0].key, 0x0001_0002);
}

/// A Go program repeats the packet's id when it repeats a call with the same object.
#[tokio::test(start_paused = true)]
async fn a_repeated_id_gets_the_answer_to_the_newest_call() {
    let mut bench = Bench::new().await;
    bench.call(5, Some(millis(100))).await;
    let first = bench.delivered().await.remove(0);
    assert_eq!(bench.answer().await.2, "context deadline exceeded");
    bench.call(5, None).await;
    let second = bench.delivered().await.remove(0);
    assert_ne!(first.id, second.id);
    reply(&first, "too late");
    reply(&second, "in time");
    assert_eq!(bench.answer().await, (5, "in time".into(), String::new()));
}

/// Messages of a program that expects no acknowledgement.
#[tokio::test(start_paused = true)]
async fn each_message_under_a_repeated_id_is_delivered() {
    let mut bench = Bench::new().await;
    for _ in 0..3 {
        bench.publish(6).await;
    }
    let mut delivered = Vec::new();
    while delivered.len() < 3 {
        delivered.extend(bench.delivered().await);
    }
    delivered.iter().for_each(|request| request.origin.answer(request.id, Answer::Done));
    assert_eq!(bench.answer().await.0, 6);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_the_newest_call_and_each_id_is_answered_once() {
    let mut bench = Bench::new().await;
    bench.call(7, None).await;
    bench.call(7, None).await;
    bench.send(7, Body::On(DEFAULT_SESSION, Word::Cancel(1))).await;
    assert_eq!(bench.answer().await, (7, Bytes::new(), "context canceled".to_owned()));
    let data = SessionData::default();
    bench.delivered().await.iter().for_each(|request| reply(request, "late"));
    bench.send(9, Body::Dismiss { session: DEFAULT_SESSION, data }).await;
    let began = tokio::time::Instant::now();
    assert!(matches!(bench.receive().await.unwrap().body, Body::DismissAck { .. }));
    let body = bench.receive().await.unwrap().body;
    assert!(matches!(body, Body::Dismiss { .. }), "the session is done, without another answer: {body:?}");
    assert!(began.elapsed() < millis(100));
}

/// A client of the reference that is disconnected sooner never reconnects.
#[tokio::test(start_paused = true)]
async fn a_client_is_not_disconnected_just_after_its_welcome() {
    let mut bench = Bench::new().await;
    let began = tokio::time::Instant::now();
    assert!(bench.handle.command(SessionCommand::Close(GoAway::new(Code::KICKED, "kicked"))));
    assert!(bench.receive().await.is_none());
    assert!(began.elapsed() >= millis(1_400), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_draining_node_serves_a_client_that_it_has_just_welcomed() {
    let mut bench = Bench::new().await;
    let began = tokio::time::Instant::now();
    let until = began.into_std() + millis(9_000);
    assert!(bench.handle.command(SessionCommand::Retire(GoAway::new(Code::DRAINING, "stops"), until)));
    tokio::time::sleep(millis(500)).await;
    bench.call(5, None).await;
    reply(&bench.delivered().await[0], "served");
    assert_eq!(bench.answer().await, (5, "served".into(), String::new()));
    assert!(bench.receive().await.is_none(), "nothing is in flight: the node closes");
    assert!((millis(1_400)..millis(2_000)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

/// When its connection ends, a client drops what its program has not read of a stream.
#[tokio::test(start_paused = true)]
async fn a_draining_node_waits_for_a_stream_that_is_being_closed() {
    let mut bench = Bench::new().await;
    let session = 1 << 62;
    let data = SessionData { peer: "unknown".into(), ..SessionData::default() };
    bench.send(2, Body::Session { acquire: true, negotiate: session, data }).await;
    assert!(matches!(bench.receive().await.unwrap().body, Body::SessionAck { .. }));
    let Some(Packet { id, body: Body::Dismiss { .. } }) = bench.receive().await else { panic!("not closed") };
    let until = tokio::time::Instant::now().into_std() + millis(9_000);
    assert!(bench.handle.command(SessionCommand::Retire(GoAway::new(Code::DRAINING, "stops"), until)));
    tokio::time::sleep(millis(5_000)).await;
    bench.send(3, Body::Heartbeat).await;
    assert_eq!(bench.receive().await.unwrap().body, Body::HeartbeatAck);
    bench.send(4, Body::Dismiss { session, data: SessionData::default() }).await;
    bench.send(id, Body::DismissAck { session, data: SessionData::default() }).await;
    assert!(matches!(bench.receive().await.unwrap().body, Body::DismissAck { .. }));
    assert!(bench.receive().await.is_none(), "nothing is in flight: the node closes");
}

/// The one connection of a service calls all edges.
#[tokio::test(start_paused = true)]
async fn a_service_may_have_many_bytes_in_flight() {
    let mut bench = Bench::new().await;
    for id in 10..50 {
        let value = Bytes::from(vec![7; 1 << 20]);
        let custom = Bytes::copy_from_slice(&EDGE.to_be_bytes());
        let data = MessageData { value, custom, key: Bytes::from_static(b"put"), ..MessageData::default() };
        bench.send(id, Body::On(DEFAULT_SESSION, Word::Request(data))).await;
        assert_eq!(bench.delivered().await[0].body.len(), 1 << 20);
    }
}
