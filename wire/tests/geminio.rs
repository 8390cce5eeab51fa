//! The geminio dialect: its golden bytes both ways, what its JSON allows, one connection's life, and
//! the faults of the reference that must not happen here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "helpers of tests")]

use std::io::IoSlice;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use limes_wire::geminio::{
    BODY_MAX, Body, Conn, Event, HANDSHAKE_BODY_MAX, HEADER, Header, Hello, Malformed, MessageData, Packet,
    SessionData, TAIL, Time, Word,
};
use limes_wire::limits::Limits;
use limes_wire::{By, Code};
use proptest::prelude::*;

/// One line of the golden file.
struct Golden {
    tag: String,
    from_client: bool,
    name: String,
    bytes: Vec<u8>,
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn goldens() -> Vec<Golden> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/geminio/packets.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.splitn(4, ' ');
            let mut next = || words.next().unwrap().to_owned();
            let (tag, who, name, rest) = (next(), next(), next(), next());
            let mut bytes = Vec::new();
            for part in rest.split(" | ") {
                match part.as_bytes()[0] {
                    b'{' => bytes.extend_from_slice(part.as_bytes()),
                    b'"' => bytes.extend_from_slice(part.trim_matches('"').as_bytes()),
                    _ => bytes.extend_from_slice(&hex(part)),
                }
            }
            Golden { tag, from_client: who.ends_with('>'), name, bytes }
        })
        .collect()
}

fn golden(tag: &str) -> Vec<u8> {
    goldens().into_iter().find(|golden| golden.tag == tag).unwrap().bytes
}

fn decode(bytes: &[u8]) -> Result<Packet, Malformed> {
    let header = Header::decode(*bytes.first_chunk().unwrap())?;
    assert_eq!(header.len, bytes.len() - HEADER);
    Packet::decode(header, Bytes::copy_from_slice(&bytes[HEADER..]))
}

fn encode(packet: &Packet) -> Vec<u8> {
    let mut out = BytesMut::new();
    let payload = packet.encode(&mut out).unwrap();
    out.extend_from_slice(&payload);
    out.to_vec()
}

fn name(body: &Body) -> &'static str {
    match body {
        Body::Conn { .. } => "Conn",
        Body::ConnAck { .. } => "ConnAck",
        Body::DisConn => "DisConn",
        Body::DisConnAck(_) => "DisConnAck",
        Body::Heartbeat => "Heartbeat",
        Body::HeartbeatAck => "HeartbeatAck",
        Body::Session { .. } => "Session",
        Body::SessionAck { .. } => "SessionAck",
        Body::Dismiss { .. } => "Dismiss",
        Body::DismissAck { .. } => "DismissAck",
        Body::On(_, Word::Message(_)) => "Message",
        Body::On(_, Word::MessageAck(_)) => "MessageAck",
        Body::On(_, Word::Data(_)) => "Stream",
        Body::On(_, Word::Request(_)) => "Request",
        Body::On(_, Word::Response(_)) => "Response",
        Body::On(_, Word::Cancel(_)) => "RequestCancel",
        Body::On(_, Word::Register(_)) => "Register",
        Body::On(_, Word::RegisterAck(_)) => "RegisterAck",
    }
}

#[test]
fn all_golden_bytes_are_read_and_written() {
    let mut names = std::collections::BTreeSet::new();
    for Golden { tag, name: said, bytes, .. } in goldens() {
        let packet = decode(&bytes).unwrap_or_else(|error| panic!("{tag}: {error}"));
        assert_eq!(name(&packet.body), said, "{tag}");
        assert_eq!(String::from_utf8_lossy(&encode(&packet)), String::from_utf8_lossy(&bytes), "{tag}");
        names.insert(name(&packet.body));
    }
    assert_eq!(names.len(), 18, "{names:?}");
}

fn request(packet: Packet) -> MessageData {
    match packet.body {
        Body::On(
            1,
            Word::Request(data) | Word::Message(data) | Word::Response(data) | Word::MessageAck(data),
        ) => data,
        other => panic!("{other:?}"),
    }
}

#[test]
fn golden_bytes_mean_what_was_meant() {
    let conn = decode(&golden("a1")).unwrap();
    let Body::Conn { acquire: true, heartbeat: 1, client: 0x4d, data } = conn.body else {
        panic!("{conn:?}")
    };
    assert_eq!(&data.meta[..], b"m1");
    let Body::ConnAck { refused: true, client: 1001, data } = decode(&golden("a4")).unwrap().body else {
        panic!("a4")
    };
    assert_eq!(data.error, "refused <by> service");
    let call = request(decode(&golden("e2")).unwrap());
    assert_eq!((&call.key[..], &call.value[..]), (&b"echo"[..], &b"ping"[..]));
    assert_eq!(&call.custom[..], 1001_u64.to_be_bytes());
    assert_eq!(call.deadline.unwrap().to_string(), "2026-11-23T06:52:05.722729115Z");
    assert_eq!((call.context, call.until()), (None, call.deadline));
    let failed = request(decode(&golden("e6")).unwrap());
    assert_eq!((&failed.value[..], failed.error.as_str()), (&b"partial"[..], "svc failed"));
    let Body::Session { acquire: true, negotiate: 0x6b03_e278_b529_ae7c, data } =
        decode(&golden("h1")).unwrap().body
    else {
        panic!("h1")
    };
    assert_eq!(data.peer, "svc-a");
}

fn response(json: &str) -> Result<MessageData, Malformed> {
    let body = [&1_u64.to_be_bytes()[..], json.as_bytes()].concat();
    let header = Header { kind: 0x72, id: 1, len: body.len() };
    Packet::decode(header, body.into()).map(request)
}

#[test]
fn json_is_taken_as_go_takes_it() {
    let ok = Bytes::from_static(b"ok");
    for json in [
        r#"{"value":"b2s="}"#,
        r#"{"VALUE":"b2s=","other":[1,{"a":null}],"Context":null,"deadline":null,"custom":"AAAA"}"#,
        r#" {"value":"b\u0032s=","error":"","timeout":0,"context":{"x":1,"deadline":"0001-01-01T00:00:00Z"}} "#,
        "{\"value\":\"b2\\ns=\"}",
        r#"{"value":"AAAA","value":"b2t="}"#,
    ] {
        let data = response(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        assert_eq!((&data.value, data.custom.len()), (&ok, 0), "{json}");
    }
    assert_eq!(response("{}").unwrap(), MessageData::default());
    for json in [
        "",
        "{",
        "nothing",
        r#"{"value":"b2s"}"#,
        r#"{"value":"b2s=="}"#,
        r#"{"value":5}"#,
        "{} {}",
        "[]",
        r#"{"deadline":"yesterday"}"#,
        r#"{"context":{"deadline":""}}"#,
        r#"{"error":{}}"#,
    ] {
        assert!(matches!(response(json), Err(Malformed::Json(_))), "{json}");
    }
}

#[test]
fn text_is_written_as_go_writes_it() {
    let data = MessageData { error: "<a> & \"b\"\\\n\u{1}\u{2028}é".to_owned(), ..MessageData::default() };
    let packet = Packet { id: 1, body: Body::On(1, Word::Response(data.clone())) };
    let bytes = encode(&packet);
    let json = std::str::from_utf8(&bytes[HEADER + 8..]).unwrap();
    let wanted = r#"{"error":"\u003ca\u003e \u0026 \"b\"\\\n\u0001\u2028é","deadline":"0001-"#;
    assert!(json.starts_with(wanted), "{json}");
    assert_eq!(request(decode(&bytes).unwrap()), data);
}

#[test]
fn the_earlier_of_two_deadlines_counts_and_one_that_has_passed_is_none() {
    let now = SystemTime::now();
    let (near, far) = (Time::after(now, Duration::from_secs(5)), Time::after(now, Duration::from_secs(30)));
    let both = MessageData { deadline: Some(far), context: Some(near), ..MessageData::default() };
    assert_eq!(both.until(), Some(near));
    assert_eq!(near.remaining(now), Some(Duration::from_secs(5)));
    // 6.7, deadlines with clock skew: the caller's clock is behind by more than it has left.
    assert_eq!(near.remaining(now + Duration::from_secs(6)), None);
}

/// 6.2: one short packet must end one connection, and nothing else.
#[test]
fn fault_crash_by_a_short_body() {
    let fixed = [
        (0x01, 10),
        (0x02, 9),
        (0x12, 1),
        (0x31, 10),
        (0x32, 18),
        (0x41, 8),
        (0x42, 8),
        (0x51, 8),
        (0x52, 8),
        (0x61, 8),
        (0x71, 8),
        (0x72, 8),
        (0x73, 10),
        (0x81, 8),
        (0x82, 8),
    ];
    for (kind, fixed) in fixed {
        for len in 0..fixed {
            let header = Header { kind, id: 1, len };
            let read = Packet::decode(header, Bytes::from(vec![0; len]));
            assert_eq!(
                read,
                Err(if kind == 0x73 && len >= 8 { Malformed::Short(len - 8) } else { Malformed::Short(len) }),
                "{kind:#x}"
            );
            let mut conn = open();
            let mut bytes = BytesMut::from(&header.encode()[..]);
            bytes.extend_from_slice(&vec![0; len]);
            assert_eq!(conn.next(Instant::now(), &mut bytes).unwrap_err().code, Code::PROTOCOL, "{kind:#x}");
        }
    }
    for kind in 0..=255 {
        if matches!(
            kind,
            0x01 | 0x02 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32 | 0x41 | 0x42 | 0x51 | 0x52 | 0x61 | 0x71
                ..=0x73 | 0x81 | 0x82
        ) {
            continue;
        }
        let read = Packet::decode(Header { kind, id: 1, len: 0 }, Bytes::new());
        assert_eq!(read, Err(Malformed::Unknown(kind)));
    }
}

/// 6.2: a length is refused by the header alone, before there is room for it.
#[test]
fn fault_four_gigabytes_for_a_header() {
    let now = Instant::now();
    let mut conn = Conn::server(now, Limits::default());
    for len in [HANDSHAKE_BODY_MAX + 1, BODY_MAX + 1, u32::MAX as usize] {
        let mut bytes = BytesMut::from(&Header { kind: 1, id: 1, len }.encode()[..]);
        assert_eq!(conn.need(&bytes), 0);
        assert_eq!(conn.next(now, &mut bytes).unwrap_err().code, Code::TOO_LARGE, "{len}");
    }
    let mut conn = open();
    let exact = Header { kind: 0x61, id: 1, len: BODY_MAX }.encode();
    assert_eq!(conn.next(now, &mut BytesMut::from(&exact[..])), Ok(None));
    assert_eq!(conn.need(&exact), BODY_MAX);
    let over = Header { kind: 0x61, id: 1, len: BODY_MAX + 1 }.encode();
    assert_eq!(conn.next(now, &mut BytesMut::from(&over[..])).unwrap_err().code, Code::TOO_LARGE);
}

/// 6.8: what would make the receiver end its connection is refused to whoever wants it sent.
#[test]
fn fault_a_message_that_kills_its_receiver() {
    let mut conn = open();
    drain(&mut conn);
    let data = MessageData { value: vec![7; 7_864_236].into(), topic: "t".into(), ..MessageData::default() };
    conn.send(Instant::now(), 1, 1, Word::Message(data.clone())).unwrap();
    assert!(drain(&mut conn).len() <= HEADER + BODY_MAX);
    let grown = MessageData { custom: vec![0; 8].into(), ..data };
    assert!(matches!(
        conn.send(Instant::now(), 1, 2, Word::Message(grown)),
        Err(Malformed::TooLarge(_, BODY_MAX))
    ));
    assert_eq!(conn.queued(), 0, "nothing of it is sent");
    conn.send(Instant::now(), 1, 3, Word::Data(vec![0; BODY_MAX - 8].into())).unwrap();
    assert!(conn.send(Instant::now(), 1, 4, Word::Data(vec![0; BODY_MAX - 7].into())).is_err());
}

/// 6.1: a peer that is silent is cut off, whatever it does or does not answer.
#[test]
fn fault_a_stale_connection_that_stays() {
    let now = Instant::now();
    let mut conn = open();
    assert!(conn.handle_timeout(now + Duration::from_secs(39)).is_ok());
    let mut beat = BytesMut::from(&golden("b1")[..]);
    assert_eq!(conn.next(now + Duration::from_secs(39), &mut beat), Ok(None));
    assert!(conn.handle_timeout(now + Duration::from_secs(78)).is_ok());
    let reason = conn.handle_timeout(now + Duration::from_secs(80)).unwrap_err();
    assert_eq!((reason.code, reason.by), (Code::KEEPALIVE, By::Us));
}

#[test]
fn a_handshake_takes_ten_seconds_at_most() {
    let now = Instant::now();
    let mut conn = Conn::server(now, Limits::default());
    assert_eq!(conn.poll_timeout(), now + Duration::from_secs(10));
    feed(&mut conn, &golden("a1"));
    assert!(conn.handle_timeout(now + Duration::from_secs(9)).is_ok());
    assert_eq!(conn.handle_timeout(now + Duration::from_secs(10)).unwrap_err().code, Code::HANDSHAKE_TIMEOUT);
}

fn feed(conn: &mut Conn, bytes: &[u8]) -> Vec<Event> {
    feed_at(conn, Instant::now(), bytes)
}

fn feed_at(conn: &mut Conn, now: Instant, bytes: &[u8]) -> Vec<Event> {
    let mut bytes = BytesMut::from(bytes);
    std::iter::from_fn(|| conn.next(now, &mut bytes).unwrap()).collect()
}

fn drain(conn: &mut Conn) -> Vec<u8> {
    let mut written = Vec::new();
    loop {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = conn.chunks(&mut slices);
        if count == 0 {
            return written;
        }
        let shown: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        conn.advance(shown.len());
        written.extend(shown);
    }
}

/// What has been written, as packets.
fn said(conn: &mut Conn) -> Vec<Packet> {
    let bytes = drain(conn);
    let (mut rest, mut packets) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let len = Header::decode(*rest.first_chunk().unwrap()).unwrap().len;
        packets.push(decode(&rest[..HEADER + len]).unwrap());
        rest = &rest[HEADER + len..];
    }
    packets
}

fn open() -> Conn {
    let mut conn = Conn::server(Instant::now(), Limits::default());
    let events = feed(&mut conn, &golden("a1"));
    assert_eq!(events, [Event::Hello(Hello { acquire: true, client: 77, meta: Bytes::from_static(b"m1") })]);
    conn.welcome(1001);
    assert_eq!(drain(&mut conn), golden("a2"));
    conn
}

fn packet(id: u64, body: Body) -> Vec<u8> {
    encode(&Packet { id, body })
}

fn bare() -> SessionData {
    SessionData::default()
}

fn ask(negotiate: u64) -> Vec<u8> {
    let data = SessionData { peer: "svc-a".into(), meta: Bytes::from_static(b"m"), ..bare() };
    packet(90, Body::Session { acquire: true, negotiate, data })
}

#[test]
fn a_connection_answers_as_the_reference_does() {
    let mut conn = open();
    assert_eq!(feed(&mut conn, &golden("b1")), []);
    assert_eq!(drain(&mut conn), golden("b2"));
    let events = feed(&mut conn, &golden("c1"));
    let [Event::Word(1, id, Word::Register(method))] = &events[..] else { panic!("{events:?}") };
    assert_eq!(&method[..], b"hello");
    conn.send(Instant::now(), 1, *id, Word::RegisterAck(String::new())).unwrap();
    assert_eq!(drain(&mut conn), golden("c2"));
    let events = feed(&mut conn, &golden("f2"));
    assert_eq!(events, [Event::Word(1, 0x6b03_e277_d4d5_9e32, Word::Cancel(1))]);
    // The client closes.
    assert_eq!(feed(&mut conn, &golden("k1")), [Event::Leaving]);
    let dismissed = said(&mut conn);
    assert_eq!(encode(&dismissed[0]), golden("k2"));
    assert_eq!(dismissed[1].body, Body::Dismiss { session: 1, data: bare() });
    assert_eq!(feed(&mut conn, &golden("b1")), [], "no heartbeat is answered any more");
    assert_eq!(feed(&mut conn, &golden("k5")), [Event::Over]);
    let farewell = said(&mut conn);
    assert_eq!(farewell[0].body, Body::DisConn);
    assert_eq!(encode(&farewell[1]), golden("k7"));
    assert_eq!(feed(&mut conn, &golden("b1")), [], "nothing is heard after that");
}

#[test]
fn a_refusal_has_a_text_and_the_id() {
    let mut conn = Conn::server(Instant::now(), Limits::default());
    feed(&mut conn, &golden("a1"));
    conn.refuse(1001, "refused <by> service");
    let words = said(&mut conn);
    let data = limes_wire::geminio::ConnData { error: "refused <by> service".into(), ..Default::default() };
    assert_eq!(words[0].body, Body::ConnAck { refused: true, client: 1001, data });
    assert_eq!((words[0].id, &words[1].body), (0x6b03_e277_d4d5_9e1a, &Body::DisConn));
}

#[test]
fn a_second_conn_and_a_first_packet_that_is_none_end_the_connection() {
    let mut conn = open();
    let now = Instant::now();
    assert_eq!(conn.next(now, &mut BytesMut::from(&golden("a1")[..])).unwrap_err().code, Code::PROTOCOL);
    let mut conn = Conn::server(now, Limits::default());
    assert_eq!(conn.next(now, &mut BytesMut::from(&golden("b1")[..])).unwrap_err().code, Code::PROTOCOL);
}

#[test]
fn what_comes_before_the_answer_is_dropped_and_empty_bodies_are_skipped() {
    let mut conn = Conn::server(Instant::now(), Limits::default());
    feed(&mut conn, &golden("a1"));
    assert_eq!(feed(&mut conn, &golden("e1")), []);
    conn.welcome(1001);
    drain(&mut conn);
    let mut beat = Header { kind: 0x21, id: 5, len: 3 }.encode().to_vec();
    beat.extend_from_slice(b"abc");
    beat.extend_from_slice(&golden("c1"));
    assert_eq!(feed(&mut conn, &beat).len(), 1, "the body of a heartbeat is not taken for a header");
}

#[test]
fn a_stream_gets_the_number_that_its_client_knows() {
    let mut conn = open();
    let events = feed(&mut conn, &ask(1 << 62));
    assert_eq!(
        events,
        [Event::Opening { session: 1 << 62, peer: "svc-a".into(), meta: Bytes::from_static(b"m") }]
    );
    // Data that is not due yet, and the answer.
    assert_eq!(feed(&mut conn, &packet(1, Body::On(1 << 62, Word::Data(Bytes::from_static(b"x"))))), []);
    assert!(conn.accept(1 << 62));
    assert!(!conn.accept(1 << 62));
    let words = said(&mut conn);
    assert_eq!(
        (words[0].id, &words[0].body),
        (90, &Body::SessionAck { negotiate: 1 << 62, session: 1 << 62, data: bare() })
    );
    let data = Word::Data(Bytes::from_static(b"raw"));
    let events = feed(&mut conn, &packet(2, Body::On(1 << 62, data.clone())));
    assert_eq!(events, [Event::Word(1 << 62, 2, data)]);
    // A number that is taken: another one is given.
    let events = feed(&mut conn, &ask(1 << 62));
    assert!(matches!(events[..], [Event::Opening { session: 2, .. }]), "{events:?}");
    // Closed by the client: both halves, and the number is free again.
    let events = feed(&mut conn, &packet(3, Body::Dismiss { session: 1 << 62, data: bare() }));
    assert_eq!(events, [Event::Ended(1 << 62)]);
    let words = said(&mut conn);
    assert_eq!((words[0].id, &words[0].body), (3, &Body::DismissAck { session: 1 << 62, data: bare() }));
    assert_eq!(words[1].body, Body::Dismiss { session: 1 << 62, data: bare() });
    let ack = packet(words[1].id, Body::DismissAck { session: 1 << 62, data: bare() });
    assert_eq!((feed(&mut conn, &ack), conn.streams()), (vec![], 1));
}

#[test]
fn fault_a_stream_to_nobody_that_stays_open() {
    let mut conn = open();
    feed(&mut conn, &ask(1 << 62));
    conn.dismiss(Instant::now(), 1 << 62);
    let bodies: Vec<Body> = said(&mut conn).into_iter().map(|packet| packet.body).collect();
    let session = 1 << 62;
    assert_eq!(
        bodies,
        [
            Body::SessionAck { negotiate: session, session, data: bare() },
            Body::Dismiss { session, data: bare() },
        ]
    );
}

#[test]
fn nothing_is_sent_on_an_offered_stream_before_it_is_taken() {
    let now = Instant::now();
    let mut conn = open();
    let session = conn.offer(now, "1001".into(), Bytes::from_static(b"m")).unwrap();
    assert_eq!(session, 2);
    drain(&mut conn);
    conn.send(Instant::now(), session, 9, Word::Data(Bytes::from_static(b"early"))).unwrap();
    assert_eq!(conn.queued(), 0);
    let ack = packet(1, Body::SessionAck { negotiate: session, session, data: bare() });
    assert_eq!(feed(&mut conn, &ack), [Event::Accepted(session)]);
    assert_eq!(feed(&mut conn, &ack), [], "once");
    conn.send(Instant::now(), session, 9, Word::Data(Bytes::from_static(b"late"))).unwrap();
    assert!(conn.queued() > 0);
    // One that nobody takes ends by itself.
    let lost = conn.offer(now, String::new(), Bytes::new()).unwrap();
    let mut later = now + Duration::from_secs(30);
    feed_at(&mut conn, later, &golden("b1"));
    conn.handle_timeout(later).unwrap();
    assert_eq!(feed_at(&mut conn, later, b""), [Event::Ended(lost)]);
    later += Duration::from_secs(30);
    feed_at(&mut conn, later, &golden("b1"));
    conn.handle_timeout(later).unwrap();
    assert_eq!(conn.streams(), 1, "and is forgotten");
}

/// 1.10: the client throws away what its reader has not taken when the handshake is over.
#[test]
fn fault_the_tail_of_a_stream_is_lost_at_its_close() {
    for (packets, held) in [(32_u64, false), (33, true)] {
        let now = Instant::now();
        let mut conn = open();
        feed(&mut conn, &ask(7 << 60));
        conn.accept(7 << 60);
        for id in 0..packets {
            conn.send(now, 7 << 60, id, Word::Data(Bytes::from_static(b"x"))).unwrap();
        }
        conn.dismiss(now, 7 << 60);
        conn.dismiss(now, 7 << 60);
        let words = said(&mut conn);
        let dismisses = words.iter().filter(|packet| matches!(packet.body, Body::Dismiss { .. })).count();
        assert_eq!(dismisses, 1, "whoever closes twice says it once");
        // Data that is still on its way is heard.
        let data = packet(3, Body::On(7 << 60, Word::Data(Bytes::from_static(b"y"))));
        assert_eq!(feed(&mut conn, &data).len(), 1);
        let events = feed_at(&mut conn, now, &packet(4, Body::Dismiss { session: 7 << 60, data: bare() }));
        assert_eq!(events, [Event::Ended(7 << 60)]);
        assert_eq!(feed(&mut conn, &data), [], "behind its Dismiss nothing comes");
        assert_eq!(said(&mut conn).is_empty(), held);
        if held {
            assert_eq!(conn.poll_timeout(), now + TAIL);
            conn.handle_timeout(now + TAIL).unwrap();
            let words = said(&mut conn);
            assert_eq!(
                (words[0].id, &words[0].body),
                (4, &Body::DismissAck { session: 7 << 60, data: bare() })
            );
        }
        feed(&mut conn, &packet(9, Body::DismissAck { session: 7 << 60, data: bare() }));
        assert_eq!(conn.streams(), 0);
    }
}

#[test]
fn streams_are_bounded() {
    let mut conn = Conn::server(Instant::now(), Limits { streams: 2, ..Limits::default() });
    feed(&mut conn, &golden("a1"));
    conn.welcome(1);
    for number in 0..3 {
        let events = feed(&mut conn, &ask((1 << 60) + number));
        assert_eq!(events.len(), usize::from(number < 2));
    }
    assert_eq!(conn.offer(Instant::now(), String::new(), Bytes::new()), Err(Code::BUSY));
}

/// All that clients say in the golden file, in one row, cut at every byte.
#[test]
fn bytes_may_come_in_any_pieces() {
    let said: Vec<u8> = goldens()
        .iter()
        .filter(|golden| {
            golden.from_client && !golden.tag.starts_with(['x', 'k']) && !matches!(&golden.tag[..], "a6")
        })
        .flat_map(|golden| golden.bytes.clone())
        .collect();
    let whole = run(&[&said]);
    assert!(whole.len() > 10, "{whole:?}");
    for cut in 0..said.len() {
        assert_eq!(run(&[&said[..cut], &said[cut..]]), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = said.chunks(1).collect();
    assert_eq!(run(&single), whole);
}

fn run(pieces: &[&[u8]]) -> Vec<Event> {
    let now = Instant::now();
    let mut conn = Conn::server(now, Limits::default());
    let (mut input, mut events) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(event) = conn.next(now, &mut input).unwrap() {
            match &event {
                Event::Hello(_) => conn.welcome(1001),
                Event::Opening { session, .. } => drop(conn.accept(*session)),
                _ => {}
            }
            events.push(event);
        }
    }
    events
}

fn message() -> impl Strategy<Value = MessageData> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let time = || {
        proptest::option::of(
            (0_i64..4_000_000_000, 0_u32..1_000_000_000).prop_map(|(secs, nanos)| Time { secs, nanos }),
        )
    };
    (bytes(), bytes(), ".{0,20}", bytes(), ".{0,20}", any::<i64>(), time(), time()).prop_map(
        |(key, value, topic, custom, error, timeout, deadline, context)| MessageData {
            key,
            value,
            topic,
            custom,
            error,
            timeout,
            deadline,
            context,
        },
    )
}

fn session_data() -> impl Strategy<Value = SessionData> {
    (proptest::collection::vec(any::<u8>(), 0..40), ".{0,9}", ".{0,9}")
        .prop_map(|(meta, error, peer)| SessionData { meta: meta.into(), error, peer })
}

fn body() -> impl Strategy<Value = Body> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..600).prop_map(Bytes::from);
    let number = any::<u64>();
    prop_oneof![
        (number, message()).prop_map(|(at, data)| Body::On(at, Word::Message(data))),
        (number, message()).prop_map(|(at, data)| Body::On(at, Word::Request(data))),
        (number, message()).prop_map(|(at, mut data)| {
            data.custom = Bytes::new();
            Body::On(at, Word::Response(data))
        }),
        (number, bytes()).prop_map(|(at, data)| Body::On(at, Word::Data(data))),
        (number, bytes()).prop_map(|(at, data)| Body::On(at, Word::Register(data))),
        (number, any::<u16>()).prop_map(|(at, reason)| Body::On(at, Word::Cancel(reason))),
        (number, session_data()).prop_map(|(session, data)| Body::Dismiss { session, data }),
        (any::<bool>(), number, session_data()).prop_map(|(acquire, negotiate, data)| Body::Session {
            acquire,
            negotiate,
            data
        }),
        (number, any::<u64>(), session_data()).prop_map(|(negotiate, session, data)| Body::SessionAck {
            negotiate,
            session,
            data
        }),
        Just(Body::Heartbeat),
        Just(Body::DisConn),
    ]
}

proptest! {
    #[test]
    fn every_packet_survives_the_wire(id in any::<u64>(), body in body()) {
        let packet = Packet { id, body };
        prop_assert_eq!(decode(&encode(&packet)).unwrap(), packet);
    }

    #[test]
    fn no_bytes_break_a_connection(noise in proptest::collection::vec(any::<u8>(), 0..200), kind in any::<u8>()) {
        let mut conn = open();
        let mut bytes = BytesMut::from(&Header { kind, id: 1, len: noise.len() }.encode()[..]);
        bytes.extend_from_slice(&noise);
        while let Ok(Some(_)) = conn.next(Instant::now(), &mut bytes) {}
        let mut conn = Conn::server(Instant::now(), Limits::default());
        let mut bytes = BytesMut::from(&noise[..]);
        while let Ok(Some(_)) = conn.next(Instant::now(), &mut bytes) {}
    }

    /// Whatever both sides do, a stream that both have closed is forgotten.
    #[test]
    fn streams_come_and_go(steps in proptest::collection::vec((0_u8..7, 0_u64..4), 0..60)) {
        let mut now = Instant::now();
        let mut conn = open();
        for (step, at) in steps {
            let session = if at < 2 { at + 2 } else { (1 << 60) + at };
            match step {
                0 => drop(feed_at(&mut conn, now, &ask((1 << 60) + at))),
                1 => drop(conn.accept(session)),
                2 => drop(conn.offer(now, String::new(), Bytes::new())),
                3 => drop(feed_at(&mut conn, now, &packet(1, Body::SessionAck { negotiate: session, session, data: bare() }))),
                4 => conn.dismiss(now, session),
                5 => drop(feed_at(&mut conn, now, &packet(1, Body::Dismiss { session, data: bare() }))),
                _ => drop(feed_at(&mut conn, now, &packet(1, Body::DismissAck { session, data: bare() }))),
            }
            drain(&mut conn);
        }
        // Everybody closes everything: in time nothing is left.
        for at in 0..4 {
            conn.dismiss(now, (1 << 60) + at);
        }
        for session in 2..80 {
            conn.dismiss(now, session);
        }
        for _ in 0..3 {
            now += Duration::from_secs(31);
            feed_at(&mut conn, now, &golden("b1"));
            conn.handle_timeout(now).unwrap();
            feed_at(&mut conn, now, b"");
        }
        prop_assert_eq!(conn.streams(), 0);
    }
}
