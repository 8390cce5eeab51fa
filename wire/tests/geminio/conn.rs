//! One connection of the geminio protocol, as the gateway sees it.

use super::*;

pub(crate) fn feed(conn: &mut Conn, bytes: &[u8]) -> Vec<Event> {
    feed_at(conn, Instant::now(), bytes)
}

pub(crate) fn feed_at(conn: &mut Conn, now: Instant, bytes: &[u8]) -> Vec<Event> {
    let mut bytes = BytesMut::from(bytes);
    std::iter::from_fn(|| conn.next(now, &mut bytes).unwrap()).collect()
}

pub(crate) fn drain(conn: &mut Conn) -> Vec<u8> {
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
pub(crate) fn sent(conn: &mut Conn) -> Vec<Packet> {
    let bytes = drain(conn);
    let (mut rest, mut packets) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let len = Header::decode(*rest.first_chunk().unwrap()).unwrap().len;
        packets.push(decode(&rest[..HEADER + len]).unwrap());
        rest = &rest[HEADER + len..];
    }
    packets
}

pub(crate) fn open() -> Conn {
    let mut conn = Conn::server(Instant::now(), Limits::default());
    let events = feed(&mut conn, &golden("a1"));
    assert_eq!(
        events,
        [Event::Hello(Hello { acquire: true, client: Some(77), meta: Bytes::from_static(b"m1") })]
    );
    conn.welcome(1001);
    assert_eq!(drain(&mut conn), golden("a2"));
    conn
}

pub(crate) fn packet(id: u64, body: Body) -> Vec<u8> {
    encode(&Packet { id, body })
}

pub(crate) fn bare() -> SessionData {
    SessionData::default()
}

pub(crate) fn ask(negotiate: u64) -> Vec<u8> {
    let data = SessionData { peer: "svc-a".into(), meta: Bytes::from_static(b"m"), ..bare() };
    packet(90, Body::Session { acquire: true, negotiate, data })
}

#[test]
fn connection_answers_like_the_reference() {
    let mut conn = open();
    assert_eq!(feed(&mut conn, &golden("b1")), []);
    assert_eq!(drain(&mut conn), golden("b2"));
    let events = feed(&mut conn, &golden("c1"));
    let [Event::StreamPacket(1, id, StreamPacket::Register(method))] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(&method[..], b"hello");
    conn.send(Instant::now(), 1, *id, StreamPacket::RegisterAck(String::new())).unwrap();
    assert_eq!(drain(&mut conn), golden("c2"));
    let events = feed(&mut conn, &golden("f2"));
    assert_eq!(events, [Event::StreamPacket(1, 0x6b03_e277_d4d5_9e32, StreamPacket::Cancel(1))]);
    // The client closes.
    assert_eq!(feed(&mut conn, &golden("k1")), [Event::Leaving]);
    let dismissed = sent(&mut conn);
    assert_eq!(encode(&dismissed[0]), golden("k2"));
    assert_eq!(dismissed[1].body, Body::Dismiss { session: 1, data: bare() });
    assert_eq!(feed(&mut conn, &golden("b1")), [], "no heartbeat is answered any more");
    assert_eq!(feed(&mut conn, &golden("k5")), [Event::Over]);
    let farewell = sent(&mut conn);
    assert_eq!(farewell[0].body, Body::DisConn);
    assert_eq!(encode(&farewell[1]), golden("k7"));
    assert_eq!(feed(&mut conn, &golden("b1")), [], "packets behind it are ignored");
}

#[test]
fn a_refusal_has_a_text_and_the_id() {
    let mut conn = Conn::server(Instant::now(), Limits::default());
    feed(&mut conn, &golden("a1"));
    conn.refuse(1001, "refused <by> service");
    let words = sent(&mut conn);
    let data = limes_wire::geminio::ConnData { error: "refused <by> service".into(), ..Default::default() };
    assert_eq!(words[0].body, Body::ConnAck { refused: true, client: 1001, data });
    assert_eq!((words[0].id, &words[1].body), (0x6b03_e277_d4d5_9e1a, &Body::DisConn));
}

#[test]
fn second_conn_and_other_first_packet_end_the_connection() {
    let mut conn = open();
    let now = Instant::now();
    assert_eq!(conn.next(now, &mut BytesMut::from(&golden("a1")[..])).unwrap_err().code, Code::PROTOCOL);
    let mut conn = Conn::server(now, Limits::default());
    assert_eq!(conn.next(now, &mut BytesMut::from(&golden("b1")[..])).unwrap_err().code, Code::PROTOCOL);
}

#[test]
fn packets_before_the_answer_are_dropped_and_unneeded_bodies_are_skipped() {
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

/// All packets of clients in the golden file, concatenated and split at every byte.
#[test]
fn bytes_may_arrive_in_any_pieces() {
    let sent: Vec<u8> = goldens()
        .iter()
        .filter(|golden| {
            golden.from_client && !golden.tag.starts_with(['x', 'k']) && !matches!(&golden.tag[..], "a6")
        })
        .flat_map(|golden| golden.bytes.clone())
        .collect();
    let whole = run(&[&sent]);
    assert!(whole.len() > 10, "{whole:?}");
    for cut in 0..sent.len() {
        assert_eq!(run(&[&sent[..cut], &sent[cut..]]), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = sent.chunks(1).collect();
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

#[test]
fn closing_peer_gets_its_answers_within_a_bounded_time() {
    let dismiss = || packet(9, Body::Dismiss { session: DEFAULT_SESSION, data: bare() });
    let asked = || packet(7, Body::Stream(DEFAULT_SESSION, StreamPacket::Request(MessageData::default())));
    let is_dismiss = |packet: &Packet| matches!(packet.body, Body::Dismiss { session: DEFAULT_SESSION, .. });
    let mut conn = open();
    feed(&mut conn, &asked());
    assert_eq!(feed(&mut conn, &dismiss()), [Event::Leaving]);
    let heard = sent(&mut conn);
    assert!(heard.len() == 1 && matches!(heard[0].body, Body::DismissAck { .. }), "{heard:?}");
    let answer = StreamPacket::Response(MessageData::default());
    conn.send(Instant::now(), DEFAULT_SESSION, 7, answer).unwrap();
    let heard = sent(&mut conn);
    assert!(
        heard.len() == 2 && matches!(heard[0].body, Body::Stream(1, StreamPacket::Response(_))),
        "{heard:?}"
    );
    assert!(is_dismiss(&heard[1]));

    let mut conn = open();
    feed(&mut conn, &asked());
    let now = Instant::now();
    feed_at(&mut conn, now, &dismiss());
    sent(&mut conn);
    let due = conn.poll_timeout();
    assert!(due > now && due <= now + Duration::from_secs(5));
    conn.handle_timeout(due).unwrap();
    assert!(sent(&mut conn).iter().any(is_dismiss));
}

/// The peer can answer requests until our Dismiss arrives: its client drops the answers after that.
#[test]
fn closing_peer_may_answer_for_a_bounded_time() {
    let dismiss = || packet(9, Body::Dismiss { session: DEFAULT_SESSION, data: bare() });
    let response =
        || packet(5, Body::Stream(DEFAULT_SESSION, StreamPacket::Response(MessageData::default())));
    let is_dismiss = |packet: &Packet| matches!(packet.body, Body::Dismiss { session: DEFAULT_SESSION, .. });
    let asked = |make: fn(MessageData) -> StreamPacket| {
        let mut conn = open();
        conn.send(Instant::now(), DEFAULT_SESSION, 5, make(MessageData::default())).unwrap();
        assert_eq!(feed(&mut conn, &dismiss()), [Event::Leaving]);
        let dismissed = sent(&mut conn).iter().any(is_dismiss);
        (conn, dismissed)
    };
    let (mut conn, dismissed) = asked(StreamPacket::Request);
    assert!(!dismissed, "Dismiss waits for the handler");
    assert!(matches!(
        feed(&mut conn, &response())[..],
        [Event::StreamPacket(1, 5, StreamPacket::Response(_))]
    ));
    assert!(sent(&mut conn).iter().any(is_dismiss));
    assert_eq!(feed(&mut conn, &response()).len(), 1, "a surplus response does no harm");

    let (mut conn, dismissed) = asked(StreamPacket::Request);
    assert!(!dismissed);
    let due = conn.poll_timeout();
    assert!(due <= Instant::now() + Duration::from_secs(2), "the client can do nothing meanwhile");
    conn.handle_timeout(due).unwrap();
    assert!(sent(&mut conn).iter().any(is_dismiss));

    assert!(asked(StreamPacket::Message).1, "a message has arrived");
}

/// A peer is disconnected after two of its own heartbeat intervals, of which there are four.
#[test]
fn silence_is_two_of_the_peers_heartbeats() {
    for (code, seconds) in [(0_u8, 5), (1, 20), (2, 80), (3, 320)] {
        let start = Instant::now();
        let mut conn = Conn::server(start, Limits::default());
        let data = limes_wire::geminio::ConnData::default();
        let hello = packet(1, Body::Conn { acquire: true, heartbeat: code, client: 0, data });
        feed_at(&mut conn, start, &hello);
        conn.welcome(1);
        let end = start + Duration::from_secs(2 * seconds);
        assert_eq!(conn.poll_timeout(), end, "code {code}");
        let before = end.checked_sub(Duration::from_millis(1)).unwrap();
        assert!(conn.handle_timeout(before).is_ok());
        assert_eq!(conn.handle_timeout(end).unwrap_err().code, Code::KEEPALIVE);
    }
}
