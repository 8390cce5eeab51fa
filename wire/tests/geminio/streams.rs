//! The streams of one geminio connection, as the gateway sees them.

use super::conn::sent;
use super::*;

#[test]
fn stream_gets_the_id_that_its_client_knows() {
    let mut conn = open();
    let events = feed(&mut conn, &ask(1 << 62));
    assert_eq!(
        events,
        [Event::Opening { session: 1 << 62, peer: "svc-a".into(), meta: Bytes::from_static(b"m") }]
    );
    // Data that is not due yet, and the answer.
    assert_eq!(
        feed(&mut conn, &packet(1, Body::Stream(1 << 62, StreamPacket::Data(Bytes::from_static(b"x"))))),
        []
    );
    assert!(conn.accept(1 << 62));
    assert!(!conn.accept(1 << 62));
    let words = sent(&mut conn);
    assert_eq!(
        (words[0].id, &words[0].body),
        (90, &Body::SessionAck { negotiate: 1 << 62, session: 1 << 62, data: bare() })
    );
    let data = StreamPacket::Data(Bytes::from_static(b"raw"));
    let events = feed(&mut conn, &packet(2, Body::Stream(1 << 62, data.clone())));
    assert_eq!(events, [Event::StreamPacket(1 << 62, 2, data)]);
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
    conn.send(Instant::now(), session, 9, StreamPacket::Data(Bytes::from_static(b"early"))).unwrap();
    assert_eq!(conn.queued(), 0);
    let ack = packet(1, Body::SessionAck { negotiate: session, session, data: bare() });
    assert_eq!(feed(&mut conn, &ack), [Event::Accepted(session)]);
    assert_eq!(feed(&mut conn, &ack), [], "once");
    conn.send(Instant::now(), session, 9, StreamPacket::Data(Bytes::from_static(b"late"))).unwrap();
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
            conn.send(now, 7 << 60, id, StreamPacket::Data(Bytes::from_static(b"x"))).unwrap();
        }
        conn.dismiss(now, 7 << 60);
        conn.dismiss(now, 7 << 60);
        let words = sent(&mut conn);
        let dismisses = words.iter().filter(|packet| matches!(packet.body, Body::Dismiss { .. })).count();
        assert_eq!(dismisses, 1, "closing twice sends one Dismiss");
        // Data in flight is accepted.
        let data = packet(3, Body::Stream(7 << 60, StreamPacket::Data(Bytes::from_static(b"y"))));
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
    let data = || StreamPacket::Data(Bytes::from_static(b"x"));
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
        let data = packet(7, Body::Stream(session, StreamPacket::Data(Bytes::from_static(b"x"))));
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
