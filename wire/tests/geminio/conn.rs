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
    let [Event::Word(1, id, Word::Register(method))] = &events[..] else { panic!("{events:?}") };
    assert_eq!(&method[..], b"hello");
    conn.send(Instant::now(), 1, *id, Word::RegisterAck(String::new())).unwrap();
    assert_eq!(drain(&mut conn), golden("c2"));
    let events = feed(&mut conn, &golden("f2"));
    assert_eq!(events, [Event::Word(1, 0x6b03_e277_d4d5_9e32, Word::Cancel(1))]);
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

#[test]
fn stream_gets_the_id_that_its_client_knows() {
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
    let words = sent(&mut conn);
    assert_eq!(
        (words[0].id, &words[0].body),
        (90, &Body::SessionAck { negotiate: 1 << 62, session: 1 << 62, data: bare() })
    );
    let data = Word::Data(Bytes::from_static(b"raw"));
    let events = feed(&mut conn, &packet(2, Body::On(1 << 62, data.clone())));
    assert_eq!(events, [Event::Word(1 << 62, 2, data)]);
    // An id in use: another one is assigned.
    let events = feed(&mut conn, &ask(1 << 62));
    assert!(matches!(events[..], [Event::Opening { session: 2, .. }]), "{events:?}");
    // Closed by the client: both halves, and the number is free again.
    let events = feed(&mut conn, &packet(3, Body::Dismiss { session: 1 << 62, data: bare() }));
    assert_eq!(events, [Event::Ended(1 << 62)]);
    let words = sent(&mut conn);
    assert_eq!((words[0].id, &words[0].body), (3, &Body::DismissAck { session: 1 << 62, data: bare() }));
    assert_eq!(words[1].body, Body::Dismiss { session: 1 << 62, data: bare() });
    let ack = packet(words[1].id, Body::DismissAck { session: 1 << 62, data: bare() });
    assert_eq!((feed(&mut conn, &ack), conn.streams()), (vec![], 1));
}

#[test]
fn fault_stream_without_a_receiver_stays_open() {
    let mut conn = open();
    feed(&mut conn, &ask(1 << 62));
    conn.dismiss(Instant::now(), 1 << 62);
    let bodies: Vec<Body> = sent(&mut conn).into_iter().map(|packet| packet.body).collect();
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
fn nothing_is_sent_on_an_offered_stream_before_it_is_accepted() {
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
    // An offer that is not accepted ends.
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

/// 1.10: at the end of the handshake the client discards what its reader has not taken.
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
        let words = sent(&mut conn);
        let dismisses = words.iter().filter(|packet| matches!(packet.body, Body::Dismiss { .. })).count();
        assert_eq!(dismisses, 1, "closing twice sends one Dismiss");
        // Data in flight is accepted.
        let data = packet(3, Body::On(7 << 60, Word::Data(Bytes::from_static(b"y"))));
        assert_eq!(feed(&mut conn, &data).len(), 1);
        let events = feed_at(&mut conn, now, &packet(4, Body::Dismiss { session: 7 << 60, data: bare() }));
        assert_eq!(events, [Event::Ended(7 << 60)]);
        assert_eq!(feed(&mut conn, &data), [], "data behind its Dismiss is ignored");
        assert_eq!(sent(&mut conn).is_empty(), held);
        if held {
            assert_eq!(conn.poll_timeout(), now + TAIL);
            conn.handle_timeout(now + TAIL).unwrap();
            let words = sent(&mut conn);
            assert_eq!(
                (words[0].id, &words[0].body),
                (4, &Body::DismissAck { session: 7 << 60, data: bare() })
            );
        }
        feed(&mut conn, &packet(9, Body::DismissAck { session: 7 << 60, data: bare() }));
        assert_eq!(conn.streams(), 0);
    }
}

/// How many packets a Go reader that needs a given time for each has not taken when its client finishes, if we
/// close right behind the last of them. Its client answers our Dismiss when 65 are left.
fn unread_at_the_end(packets: u64, each: Duration, idle: Duration) -> u64 {
    let start = Instant::now();
    let mut conn = open();
    feed(&mut conn, &ask(7 << 60));
    conn.accept(7 << 60);
    let data = || Word::Data(Bytes::from_static(b"x"));
    let first = start.checked_sub(idle).unwrap();
    for id in 0..packets {
        conn.send(if id == 0 { first } else { start }, 7 << 60, id, data()).unwrap();
    }
    conn.dismiss(start, 7 << 60);
    sent(&mut conn);
    let answered = start + each * u32::try_from(packets.saturating_sub(65)).unwrap();
    let mut beat = start;
    while beat < answered {
        feed_at(&mut conn, beat, &golden("b1"));
        beat += Duration::from_secs(5);
    }
    sent(&mut conn);
    feed_at(&mut conn, answered, &packet(3, Body::DismissAck { session: 7 << 60, data: bare() }));
    feed_at(&mut conn, answered, &packet(4, Body::Dismiss { session: 7 << 60, data: bare() }));
    let mut now = answered;
    while sent(&mut conn).is_empty() {
        now = conn.poll_timeout();
        assert!(now <= answered + TAIL_MAX, "its client gives up then");
        conn.handle_timeout(now).unwrap();
    }
    assert_eq!(conn.streams(), 0);
    packets.saturating_sub(((now - start).as_nanos() / each.as_nanos()) as u64)
}

/// The same for readers that need longer than [`TAIL`] for what is before their tail.
#[test]
fn fault_the_tail_of_a_stream_is_lost_where_its_reader_is_slow() {
    for (packets, millis) in
        [(200, 25), (120, 60), (1_000, 25), (200, 100), (110, 400), (70, 90), (20_000, 1)]
    {
        for idle in [Duration::ZERO, Duration::from_secs(3_600)] {
            let unread = unread_at_the_end(packets, Duration::from_millis(millis), idle);
            assert!(unread <= 32, "{unread} of {packets}, {millis} ms each");
        }
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
    // Nothing is kept of those beyond that, however many they are, and each is closed in order.
    sent(&mut conn);
    for number in 10..2_000_u64 {
        let session = (1 << 60) + number;
        assert_eq!(feed(&mut conn, &ask(session)), []);
        let data = packet(7, Body::On(session, Word::Data(Bytes::from_static(b"x"))));
        assert_eq!(feed(&mut conn, &data), [], "data of a refused stream is ignored");
        let words: Vec<Body> = sent(&mut conn).into_iter().map(|packet| packet.body).collect();
        let accepted = Body::SessionAck { negotiate: session, session, data: bare() };
        assert_eq!(words, [accepted, Body::Dismiss { session, data: bare() }]);
        assert_eq!(feed(&mut conn, &packet(8, Body::Dismiss { session, data: bare() })), []);
        assert_eq!(sent(&mut conn)[0].body, Body::DismissAck { session, data: bare() });
    }
    assert_eq!(conn.streams(), 2);
}

/// Each look at the timers goes through all streams.
#[test]
fn many_streams_that_end_in_sequence_are_checked_seldom() {
    let start = Instant::now();
    let mut conn = Conn::server(start, Limits { streams: 65_536, ..Limits::default() });
    feed_at(&mut conn, start, &golden("a1"));
    conn.welcome(1);
    for number in 0..5_000_u32 {
        let now = start + Duration::from_millis(1) * number;
        conn.offer(now, String::new(), Bytes::new()).unwrap();
        drain(&mut conn);
    }
    let (mut looks, mut ended, mut now) = (0, 0, start);
    while ended < 5_000 {
        now = conn.poll_timeout();
        conn.handle_timeout(now).unwrap();
        let events = feed_at(&mut conn, now, &golden("b1"));
        ended += events.iter().filter(|event| matches!(event, Event::Ended(_))).count();
        looks += 1;
    }
    assert!(now <= start + Duration::from_millis(35_200), "{:?}", now - start);
    assert!(looks <= 60, "{looks} looks");
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
    let asked = || packet(7, Body::On(DEFAULT_SESSION, Word::Request(MessageData::default())));
    let is_dismiss = |packet: &Packet| matches!(packet.body, Body::Dismiss { session: DEFAULT_SESSION, .. });
    let mut conn = open();
    feed(&mut conn, &asked());
    assert_eq!(feed(&mut conn, &dismiss()), [Event::Leaving]);
    let heard = sent(&mut conn);
    assert!(heard.len() == 1 && matches!(heard[0].body, Body::DismissAck { .. }), "{heard:?}");
    let answer = Word::Response(MessageData::default());
    conn.send(Instant::now(), DEFAULT_SESSION, 7, answer).unwrap();
    let heard = sent(&mut conn);
    assert!(heard.len() == 2 && matches!(heard[0].body, Body::On(1, Word::Response(_))), "{heard:?}");
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
    let response = || packet(5, Body::On(DEFAULT_SESSION, Word::Response(MessageData::default())));
    let is_dismiss = |packet: &Packet| matches!(packet.body, Body::Dismiss { session: DEFAULT_SESSION, .. });
    let asked = |word: fn(MessageData) -> Word| {
        let mut conn = open();
        conn.send(Instant::now(), DEFAULT_SESSION, 5, word(MessageData::default())).unwrap();
        assert_eq!(feed(&mut conn, &dismiss()), [Event::Leaving]);
        let told = sent(&mut conn).iter().any(is_dismiss);
        (conn, told)
    };
    let (mut conn, told) = asked(Word::Request);
    assert!(!told, "its handler runs");
    assert!(matches!(feed(&mut conn, &response())[..], [Event::Word(1, 5, Word::Response(_))]));
    assert!(sent(&mut conn).iter().any(is_dismiss));
    assert_eq!(feed(&mut conn, &response()).len(), 1, "a surplus response does no harm");

    let (mut conn, told) = asked(Word::Request);
    assert!(!told);
    let due = conn.poll_timeout();
    assert!(due <= Instant::now() + Duration::from_secs(2), "the client can do nothing meanwhile");
    conn.handle_timeout(due).unwrap();
    assert!(sent(&mut conn).iter().any(is_dismiss));

    assert!(asked(Word::Message).1, "a message has arrived");
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
