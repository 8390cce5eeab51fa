//! Two connections on virtual time, and one against random bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests; time begins somewhere"
)]

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use limes_wire::frame::{Call, Frame, GoAway, Hello, Role, Welcome};
use limes_wire::limits::{KEEPALIVE, Limits};
use limes_wire::{Code, Conn, Event};
use proptest::prelude::*;

/// Everything that a connection wants written.
fn written(conn: &mut Conn) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = conn.chunks(&mut slices);
        if count == 0 {
            return all;
        }
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        // Written in odd pieces, as a full socket would take them.
        let some = bytes.len().min(997);
        all.extend_from_slice(&bytes[..some]);
        conn.advance(some);
    }
}

/// What a connection makes of bytes that arrive in pieces of this size.
fn arrive(
    conn: &mut Conn,
    now: Instant,
    bytes: &[u8],
    piece: usize,
) -> Result<Vec<Event>, limes_wire::CloseReason> {
    let (mut input, mut events) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(piece);
        while let Some(event) = conn.next(now, &mut input)? {
            events.push(event);
        }
    }
    Ok(events)
}

/// A client and a server after their handshake.
fn pair(now: Instant) -> (Conn, Conn) {
    let mut client = Conn::client(Hello::default(), now, Limits::default());
    let mut server = Conn::server(now, Limits::default());
    let events = arrive(&mut server, now, &written(&mut client), 3).unwrap();
    assert!(matches!(events[..], [Event::Hello(_)]));
    server.welcome(Welcome { id: 5, ..Welcome::default() });
    let events = arrive(&mut client, now, &written(&mut server), 3).unwrap();
    assert!(matches!(&events[..], [Event::Welcome(welcome)] if welcome.id == 5));
    (client, server)
}

fn call(id: u64, body: Vec<u8>) -> Frame {
    let body = Bytes::from(body);
    Frame::Call(Call { id, deadline: Duration::from_secs(1), peer: 0, method: "m".into(), body })
}

#[test]
fn silence_is_answered_by_a_ping_and_then_ends_the_connection() {
    let begin = Instant::now();
    let (mut client, mut server) = pair(begin);
    assert_eq!(server.poll_timeout(), begin + KEEPALIVE);
    server.handle_timeout(begin + KEEPALIVE).unwrap();
    assert!(server.missed_keepalive());
    // The client answers by itself, and all is well again.
    let events = arrive(&mut client, begin + KEEPALIVE, &written(&mut server), 100).unwrap();
    assert!(events.is_empty());
    arrive(&mut server, begin + KEEPALIVE, &written(&mut client), 100).unwrap();
    assert!(!server.missed_keepalive());
    // Without an answer it is over after twice the time.
    let late = begin + KEEPALIVE * 2;
    server.handle_timeout(late).unwrap();
    server.handle_timeout(late + KEEPALIVE / 2).unwrap();
    let reason = server.handle_timeout(late + KEEPALIVE).unwrap_err();
    assert_eq!(reason.code, Code::KEEPALIVE);
}

#[test]
fn a_handshake_has_a_deadline() {
    let begin = Instant::now();
    let mut server = Conn::server(begin, Limits::default());
    arrive(&mut server, begin, b"LIM", 1).unwrap();
    assert!(server.handle_timeout(begin + Limits::default().handshake / 2).is_ok());
    let reason = server.handle_timeout(begin + Limits::default().handshake).unwrap_err();
    assert_eq!(reason.code, Code::HANDSHAKE_TIMEOUT);
}

#[test]
fn versions_without_an_overlap_are_refused_with_our_range() {
    let now = Instant::now();
    let hello = Hello { versions: (7, 9), ..Hello::default() };
    let mut client = Conn::client(hello, now, Limits::default());
    let mut server = Conn::server(now, Limits::default());
    let reason = arrive(&mut server, now, &written(&mut client), 100).unwrap_err();
    assert_eq!(reason.code, Code::VERSION);
    assert!(reason.text.contains("this side 1 to 1"), "{}", reason.text);
}

#[test]
fn length_over_the_limit_is_refused_before_its_bytes_arrive() {
    let now = Instant::now();
    let (_, mut server) = pair(now);
    let mut input = BytesMut::from(&[0x10, 0, 0, 22, 0xff, 0xff, 0xff, 0xff][..]);
    let reason = server.next(now, &mut input).unwrap_err();
    assert_eq!(reason.code, Code::TOO_LARGE);
}

#[test]
fn frames_of_nodes_and_second_handshakes_are_refused() {
    let now = Instant::now();
    for frame in [vec![0x81, 0, 0, 0, 0, 0, 0, 0], {
        let mut hello = BytesMut::new();
        let body = Frame::Hello(Box::new(Hello { role: Role::Edge, ..Hello::default() })).encode(&mut hello);
        hello.extend_from_slice(&body);
        hello.to_vec()
    }] {
        let (_, mut server) = pair(now);
        let reason = arrive(&mut server, now, &frame, 100).unwrap_err();
        assert_eq!(reason.code, Code::PROTOCOL);
    }
    // Unknown and ignorable: skipped. Unknown and not: the end.
    let (_, mut server) = pair(now);
    assert!(arrive(&mut server, now, &[0x7f, 0x80, 0, 1, 0, 0, 0, 1, 9, 9], 1).unwrap().is_empty());
    assert!(arrive(&mut server, now, &[0x7f, 0, 0, 0, 0, 0, 0, 0], 1).is_err());
}

#[test]
fn calls_are_written_before_stream_bytes_and_never_inside_their_frames() {
    let now = Instant::now();
    let (mut client, mut server) = pair(now);
    let header = |len: u32| [&[0, 0, 0, 0, 0, 0, 0, 1][..], &len.to_be_bytes()].concat();
    client.send_yamux(BytesMut::from(&header(3)[..])).unwrap();
    client.send_yamux(BytesMut::from(&b"ab"[..])).unwrap();
    client.send(call(1, vec![1; 2_000]));
    client.send_yamux(BytesMut::from(&b"c"[..])).unwrap();
    client.send(call(2, vec![2; 10]));
    let events = arrive(&mut server, now, &written(&mut client), 1_000_000).unwrap();
    let kinds: Vec<u64> = events
        .iter()
        .map(|event| match event {
            Event::Frame(Frame::Call(call)) => call.id,
            Event::Yamux(bytes) => {
                assert_eq!(bytes.len(), 15, "one whole frame");
                99
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, [1, 2, 99]);
}

/// PROTOCOL 7.9: yamux tells only the other side; here it ends the connection.
#[test]
fn yamux_go_away_ends_the_connection() {
    let (mut client, _) = pair(Instant::now());
    let frame = |kind: u8| [0, kind, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    client.send_yamux(BytesMut::from(&[&frame(0)[..], b"\0\x03", &frame(1)].concat()[..])).unwrap();
    client.send_yamux(BytesMut::from(&frame(3)[..5])).unwrap();
    let reason = client.send_yamux(BytesMut::from(&frame(3)[5..])).unwrap_err();
    assert_eq!(reason.code, Code::PROTOCOL);
}

proptest! {
    /// The same events result however the bytes are split.
    #[test]
    fn pieces_do_not_matter(sizes in prop::collection::vec(0..1_500_usize, 1..8), piece in 1..600_usize) {
        let now = Instant::now();
        let (mut client, server) = pair(now);
        let mut servers = [server, pair(now).1];
        for (id, size) in sizes.iter().enumerate() {
            client.send(call(id as u64, vec![id as u8; *size]));
        }
        client.send(Frame::GoAway(GoAway::new(Code::OK, "bye")));
        let bytes = written(&mut client);
        let whole = arrive(&mut servers[0], now, &bytes, usize::MAX).unwrap();
        let pieces = arrive(&mut servers[1], now, &bytes, piece).unwrap();
        prop_assert_eq!(whole.len(), sizes.len() + 1);
        prop_assert_eq!(whole, pieces);
    }

    /// Random bytes end in an error or in nothing, never in a panic.
    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), piece in 1..50_usize) {
        let now = Instant::now();
        let (mut client, mut server) = pair(now);
        let _ = arrive(&mut server, now, &bytes, piece);
        let _ = arrive(&mut client, now, &bytes, piece);
        let mut fresh = Conn::server(now, Limits::default());
        let greeting = [&b"LIMES\r\n1"[..], &bytes].concat();
        let _ = arrive(&mut fresh, now, &greeting, piece);
    }
}
