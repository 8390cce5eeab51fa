//! The geminio protocol: its golden bytes both ways, what its JSON allows, one connection from start to end, and
//! the faults of the reference that must not happen here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "helpers of tests")]

mod conn;

use std::io::IoSlice;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use limes_wire::geminio::{
    BODY_MAX, Body, Conn, DEFAULT_SESSION, Event, HANDSHAKE_BODY_MAX, HEADER, Header, Hello, Malformed,
    MessageData, Packet, SessionData, TAIL, TAIL_MAX, Time, Word,
};
use limes_wire::limits::Limits;
use limes_wire::{By, Code};
use proptest::prelude::*;

use conn::{ask, bare, drain, feed, feed_at, open, packet};

/// One line of the golden file.
struct Golden {
    tag: String,
    from_client: bool,
    name: String,
    bytes: Vec<u8>,
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).unwrap()
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
                    _ => bytes.extend_from_slice(&unhex(part)),
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
fn golden_bytes_decode_to_the_documented_fields() {
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
fn json_is_read_as_go_reads_it() {
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

/// 6.2: a length is refused by the header alone, before anything is allocated.
#[test]
fn fault_four_gigabytes_for_a_header() {
    let now = Instant::now();
    let mut conn = Conn::server(now, Limits::default());
    for len in [HANDSHAKE_BODY_MAX + 1, BODY_MAX + 1, u32::MAX as usize] {
        let mut bytes = BytesMut::from(&Header { kind: 1, id: 1, len }.encode()[..]);
        assert_eq!(conn.need(&bytes), None);
        assert_eq!(conn.next(now, &mut bytes).unwrap_err().code, Code::TOO_LARGE, "{len}");
    }
    let mut conn = open();
    let exact = Header { kind: 0x61, id: 1, len: BODY_MAX }.encode();
    assert_eq!(conn.next(now, &mut BytesMut::from(&exact[..])), Ok(None));
    assert_eq!(conn.need(&exact), Some(BODY_MAX));
    let over = Header { kind: 0x61, id: 1, len: BODY_MAX + 1 }.encode();
    assert_eq!(conn.next(now, &mut BytesMut::from(&over[..])).unwrap_err().code, Code::TOO_LARGE);
}

/// 6.8: a packet that would make the receiver close its connection is refused to its sender.
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

/// 6.1: a silent peer is disconnected, whatever it answers.
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

/// The owner looks at what is left over whenever it has something else to do.
#[test]
fn unfinished_packet_is_one_sign_of_life() {
    let now = Instant::now();
    let mut conn = open();
    let whole = golden("b1");
    let mut part = BytesMut::from(&whole[..5]);
    for seconds in [1, 20, 39, 40] {
        assert_eq!(conn.next(now + Duration::from_secs(seconds), &mut part), Ok(None));
    }
    assert_eq!(conn.poll_timeout(), now + Duration::from_secs(41));
    part.extend_from_slice(&whole[5..6]);
    assert_eq!(conn.next(now + Duration::from_secs(40), &mut part), Ok(None));
    assert!(conn.handle_timeout(now + Duration::from_secs(79)).is_ok(), "one more byte is a sign of life");
    let reason = conn.handle_timeout(now + Duration::from_secs(80)).unwrap_err();
    assert_eq!(reason.code, Code::KEEPALIVE);
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
        // All sides close everything: in time nothing is left.
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
