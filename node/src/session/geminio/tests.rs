//! A session on a connection in memory, whose peer the test is, and whose time passes at once.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use limes_routing::{EdgeId, Incarnation};
use limes_wire::driver::{Mailbox, drive};
use limes_wire::frame::Welcome;
use limes_wire::geminio::{Body, Conn, ConnData, HEADER, Header, MessageData, Packet, SessionData, Time};
use limes_wire::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::config::{Cap, HashBy, NodeConfig};
use crate::router::edge_routes::EdgeLocation;
use crate::router::message::{Answer, NativeMessage, Request, SessionHandle};
use crate::server::assemble::Components;
use crate::transport::limiter::ConnectionLimiter;

/// The edge that the service here calls.
const EDGE: u64 = 1_001;
/// The end of its address is not what other peers are spread by.
const REMOTE: &str = "[2001:db8::a:1:2]:4444";

/// A service's client, and what its gateway does with it.
struct Bench {
    socket: DuplexStream,
    handle: TaskHandle<GeminioMessage>,
    /// The mailbox of the session of [`EDGE`].
    edge: Mailbox<NativeMessage>,
}

impl Bench {
    /// Just accepted.
    async fn new() -> Bench {
        let mut config = NodeConfig::default();
        config.exchange.hashby = HashBy::SrcIp;
        let node = Components::new(Arc::new(config));
        let (edge, mailbox, incarnation) = (Mailbox::new(), Mailbox::new(), Incarnation::default());
        let handle = TaskHandle::new(mailbox.clone());
        let to_edge = SessionHandle::Native(TaskHandle::new(edge.clone()));
        node.mesh.edges.set(EdgeId(EDGE), EdgeLocation::Local { incarnation, handle: to_edge });
        let remote: SocketAddr = REMOTE.parse().unwrap();
        let place = ConnectionLimiter::new(Cap::Unlimited, 9).enter(remote.ip()).unwrap();
        let mut session = Session::new(node.session, Role::Service, handle.clone(), remote, place);
        // The tables are not asked: it is as if they had been.
        session.state = State::Admitting;
        let now = tokio::time::Instant::now().into_std();
        let mut conn = Conn::server(now, Limits::default());
        let hello = Body::Conn { acquire: true, heartbeat: 3, client: 0, data: ConnData::default() };
        let heard = conn.next(now, &mut encode(1, hello)).unwrap();
        assert!(matches!(heard, Some(Event::Hello(_))));
        let (socket, other) = tokio::io::duplex(1 << 20);
        tokio::spawn(drive(other, conn, session, mailbox));
        let welcome = Welcome { id: 77, ..Welcome::default() };
        assert!(handle.command(SessionCommand::Welcome(Box::new(welcome))));
        let mut bench = Bench { socket, handle, edge };
        assert!(matches!(
            bench.hear().await,
            Some(Packet { id: 1, body: Body::ConnAck { refused: false, .. } })
        ));
        bench
    }

    async fn say(&mut self, id: u64, body: Body) {
        self.socket.write_all(&encode(id, body)).await.unwrap();
    }

    /// What the gateway says next; `None`: it has closed.
    async fn hear(&mut self) -> Option<Packet> {
        let mut head = [0; HEADER];
        self.socket.read_exact(&mut head).await.ok()?;
        let header = Header::decode(head).unwrap();
        let mut body = vec![0; header.len];
        self.socket.read_exact(&mut body).await.ok()?;
        Some(Packet::decode(header, body.into()).unwrap())
    }

    /// Calls the edge, with so much time.
    async fn call(&mut self, id: u64, time: Option<Duration>) {
        let data = MessageData {
            key: Bytes::from_static(b"echo"),
            custom: Bytes::copy_from_slice(&EDGE.to_be_bytes()),
            deadline: time.map(|time| Time::after(SystemTime::now(), time)),
            ..MessageData::default()
        };
        self.say(id, Body::On(DEFAULT_SESSION, Word::Request(data))).await;
    }

    async fn publish(&mut self, id: u64) {
        let custom = Bytes::copy_from_slice(&EDGE.to_be_bytes());
        let data = MessageData { custom, ..MessageData::default() };
        self.say(id, Body::On(DEFAULT_SESSION, Word::Message(data))).await;
    }

    /// What has come to the edge's mailbox, which is more than nothing.
    async fn led_to_the_edge(&self) -> Vec<Request> {
        for _ in 0..100 {
            let mails = self.edge.take_all();
            let requests: Vec<Request> = mails
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
        panic!("nothing was led to the edge");
    }

    /// The next answer: its packet's id, its value and its error.
    async fn answer(&mut self) -> (u64, Bytes, String) {
        match self.hear().await {
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

/// What a call without an answer ends with, and after how long.
#[tokio::test(start_paused = true)]
async fn whose_time_it_was_is_in_the_text() {
    let (own, ours) = ("context deadline exceeded", "timeout");
    for (time, text, ends) in [
        (Some(millis(2_000)), own, millis(2_000)),
        (Some(millis(60_000)), ours, millis(30_000)),
        (None, ours, millis(30_000)),
        // It has passed already: the clocks differ.
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

/// As in the reference, by the last four bytes also over IPv6: else affinity would not survive.
#[tokio::test(start_paused = true)]
async fn requests_are_spread_as_before() {
    let mut bench = Bench::new().await;
    bench.call(5, None).await;
    assert_eq!(bench.led_to_the_edge().await[0].key, 0x0001_0002);
}

/// A Go program that asks again with the same object.
#[tokio::test(start_paused = true)]
async fn an_id_may_be_used_again_while_somebody_has_the_first() {
    let mut bench = Bench::new().await;
    bench.call(5, Some(millis(100))).await;
    let first = bench.led_to_the_edge().await.remove(0);
    assert_eq!(bench.answer().await.2, "context deadline exceeded");
    bench.call(5, None).await;
    let second = bench.led_to_the_edge().await.remove(0);
    assert_ne!(first.id, second.id);
    reply(&first, "too late");
    reply(&second, "in time");
    assert_eq!(bench.answer().await, (5, "in time".into(), String::new()));
    // Messages that want no acknowledgement: each arrives.
    for _ in 0..3 {
        bench.publish(6).await;
    }
    let mut led = Vec::new();
    while led.len() < 3 {
        led.extend(bench.led_to_the_edge().await);
    }
    led.iter().for_each(|request| request.origin.answer(request.id, Answer::Done));
    assert_eq!(bench.answer().await.0, 6);
    // A cancel means the newest, and one answer comes for each id: nothing is left over.
    bench.call(7, None).await;
    bench.call(7, None).await;
    bench.say(7, Body::On(DEFAULT_SESSION, Word::Cancel(1))).await;
    assert_eq!(bench.answer().await, (7, Bytes::new(), "context canceled".to_owned()));
    let data = SessionData::default();
    bench.led_to_the_edge().await.iter().for_each(|request| reply(request, "late"));
    bench.say(9, Body::Dismiss { session: DEFAULT_SESSION, data }).await;
    let began = tokio::time::Instant::now();
    assert!(matches!(bench.hear().await.unwrap().body, Body::DismissAck { .. }));
    assert!(matches!(bench.hear().await.unwrap().body, Body::Dismiss { .. }), "it waits for nothing");
    assert!(began.elapsed() < millis(100));
}

/// A client of the reference that is cut off sooner never comes back.
#[tokio::test(start_paused = true)]
async fn who_was_just_accepted_is_left_alone() {
    let mut bench = Bench::new().await;
    let began = tokio::time::Instant::now();
    assert!(bench.handle.command(SessionCommand::Close(GoAway::new(Code::KICKED, "kicked"))));
    assert!(bench.hear().await.is_none());
    assert!(began.elapsed() >= millis(1_400), "{:?}", began.elapsed());
}

/// And meanwhile a node that stops serves it.
#[tokio::test(start_paused = true)]
async fn who_was_just_accepted_by_a_node_that_stops_is_served() {
    let mut bench = Bench::new().await;
    let began = tokio::time::Instant::now();
    let until = began.into_std() + millis(9_000);
    assert!(bench.handle.command(SessionCommand::Retire(GoAway::new(Code::DRAINING, "stops"), until)));
    tokio::time::sleep(millis(500)).await;
    bench.call(5, None).await;
    reply(&bench.led_to_the_edge().await[0], "served");
    assert_eq!(bench.answer().await, (5, "served".into(), String::new()));
    assert!(bench.hear().await.is_none(), "nothing is left to be done");
    assert!((millis(1_400)..millis(2_000)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

/// A client throws away what its program has not read of a stream when its connection ends.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_being_closed_keeps_a_connection_of_a_node_that_stops() {
    let mut bench = Bench::new().await;
    let session = 1 << 62;
    let data = SessionData { peer: "nobody".into(), ..SessionData::default() };
    bench.say(2, Body::Session { acquire: true, negotiate: session, data }).await;
    assert!(matches!(bench.hear().await.unwrap().body, Body::SessionAck { .. }));
    let Some(Packet { id, body: Body::Dismiss { .. } }) = bench.hear().await else { panic!("not closed") };
    let until = tokio::time::Instant::now().into_std() + millis(9_000);
    assert!(bench.handle.command(SessionCommand::Retire(GoAway::new(Code::DRAINING, "stops"), until)));
    tokio::time::sleep(millis(5_000)).await;
    bench.say(3, Body::Heartbeat).await;
    assert_eq!(bench.hear().await.unwrap().body, Body::HeartbeatAck);
    bench.say(4, Body::Dismiss { session, data: SessionData::default() }).await;
    bench.say(id, Body::DismissAck { session, data: SessionData::default() }).await;
    assert!(matches!(bench.hear().await.unwrap().body, Body::DismissAck { .. }));
    assert!(bench.hear().await.is_none(), "nothing is left to be done");
}

/// One connection of a service calls all edges.
#[tokio::test(start_paused = true)]
async fn a_service_may_have_much_in_flight() {
    let mut bench = Bench::new().await;
    for id in 10..50 {
        let value = Bytes::from(vec![7; 1 << 20]);
        let custom = Bytes::copy_from_slice(&EDGE.to_be_bytes());
        let data = MessageData { value, custom, key: Bytes::from_static(b"put"), ..MessageData::default() };
        bench.say(id, Body::On(DEFAULT_SESSION, Word::Request(data))).await;
        assert_eq!(bench.led_to_the_edge().await[0].body.len(), 1 << 20);
    }
}
