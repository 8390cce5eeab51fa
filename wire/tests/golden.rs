//! The bytes of every frame and record, as `golden/` explains them: written and read.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests; time begins somewhere"
)]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use limes_wire::frame::{
    Ack, Call, CallError, Done, Execution, Extension, Frame, GoAway, HEADER, Header, Hello, Message, Names,
    Reply, Role, Welcome,
};
use limes_wire::limits::Limits;
use limes_wire::stream::{Open, RECORD_HEAD, Record, RecordHead};
use limes_wire::{Code, Conn, Event, Str};

/// The bytes of a golden file, without its comments.
fn golden(name: &str) -> Bytes {
    let path = format!("{}/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    uncomment(text.lines())
}

/// Bytes in hex, with comments behind `#`.
fn uncomment<'a>(lines: impl Iterator<Item = &'a str>) -> Bytes {
    let digits: String =
        lines.filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace).collect();
    hex::decode(digits).unwrap().into()
}

fn names() -> Names {
    Names { id: 3, names: vec![Str::from("a"), Str::from("bc")] }
}

fn handshake_frames(peers: Vec<String>) -> Vec<Frame> {
    vec![
        Frame::Hello(Box::new(Hello {
            role: Role::Service,
            keepalive: Duration::from_secs(20),
            moving: true,
            claim: Some(77),
            name: "greeter".into(),
            instance: [9; 16],
            ticket: Bytes::from_static(b"tick"),
            meta: Bytes::from_static(b"meta"),
            ..Hello::default()
        })),
        Frame::Welcome(Box::new(Welcome {
            id: 1_000_000_000_001,
            incarnation: (900, 2),
            cluster: [7; 16],
            node: "node-1".into(),
            peers,
            ticket: Bytes::from_static(b"ticket"),
            ..Welcome::default()
        })),
    ]
}

fn frames() -> Vec<Frame> {
    let peers = vec!["10.0.0.2:30012".to_owned()];
    let mut frames = handshake_frames(peers.clone());
    frames.extend([
        Frame::Ping { nonce: 5 },
        Frame::Pong { nonce: 5 },
        Frame::GoAway(GoAway { code: Code::DRAINING, text: "stopping".into(), peers }),
        Frame::Call(Call {
            id: 7,
            deadline: Duration::from_secs(30),
            peer: 1_000_000_000_001,
            method: "greet".into(),
            body: Bytes::from_static(b"world"),
        }),
        Frame::Reply(Reply { id: 7, body: Bytes::from_static(b"hello world") }),
        Frame::Error(CallError {
            id: 7,
            code: Code::NO_METHOD,
            ran: Execution::NotStarted,
            text: "nobody".into(),
        }),
        Frame::Cancel { id: 7 },
        Frame::Message(Message {
            id: 8,
            deadline: Duration::from_secs(5),
            peer: 0,
            topic: "alarms".into(),
            body: Bytes::from_static(b"fire"),
        }),
        Frame::Ack(Ack { id: 8, code: Code::OK, text: String::new() }),
        Frame::Register(names()),
        Frame::Withdraw(names()),
        Frame::Subscribe(names()),
        Frame::Unsubscribe(names()),
        Frame::Done(Done { id: 3, code: Code::NO_QUORUM, text: "later".into() }),
        Frame::Extension(Extension {
            kind: 0x81,
            flags: 0,
            head: Bytes::from_static(b"hd"),
            body: Bytes::from_static(b"body"),
        }),
    ]);
    frames
}

#[test]
fn frames_are_written_and_read_as_documented() {
    for frame in frames() {
        let name = frame.name();
        let whole = golden(name);
        let mut written = BytesMut::new();
        let body = frame.clone().encode(&mut written);
        written.extend_from_slice(&body);
        assert_eq!(written, whole, "{name} is written otherwise");
        let header = Header::decode(*whole.first_chunk::<HEADER>().unwrap());
        assert_eq!(header.frame_len(), whole.len(), "{name}");
        let split = HEADER + usize::from(header.head);
        let read = Frame::decode(header, whole.slice(HEADER..split), whole.slice(split..));
        assert_eq!(read, Ok(Some(frame)), "{name} is read otherwise");
        // A newer peer's longer head is read; a truncated one never is.
        let longer = [&whole[HEADER..split], &[0xee, 0, 1, 7]].concat().into();
        if header.kind < 0x80 {
            assert!(matches!(Frame::decode(header, longer, whole.slice(split..)), Ok(Some(_))), "{name}");
        }
        let tagged = header.kind <= 2;
        if header.kind < 0x80 && !tagged {
            for cut in HEADER..split {
                let cut = Frame::decode(header, whole.slice(HEADER..cut), whole.slice(split..));
                assert!(cut.is_err(), "{name}, cut");
            }
        }
    }
}

/// PROTOCOL 3.1: fields may have any order, unknown ones are skipped, and only some are required.
#[test]
fn handshake_fields_are_read_by_their_tags() {
    let header = |kind, head: &[u8]| Header { kind, flags: 0, head: head.len() as u16, body: 0 };
    let read =
        |kind, head: &[u8]| Frame::decode(header(kind, head), Bytes::copy_from_slice(head), Bytes::new());
    let hello = [0xee, 0, 2, 9, 9, 2, 0, 1, 1, 1, 0, 4, 0, 1, 0, 3];
    let Ok(Some(Frame::Hello(found))) = read(1, &hello) else { panic!("{:?}", read(1, &hello)) };
    assert_eq!(*found, Hello { versions: (1, 3), ..Hello::default() });
    assert!(read(1, &hello[..9]).is_err(), "without versions");
    assert!(read(1, &hello[9..]).is_err(), "without a role");
    assert!(read(1, &hello[..15]).is_err(), "cut in a field");
    let welcome = [4, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 2, 0, 1];
    let Ok(Some(Frame::Welcome(found))) = read(2, &welcome) else { panic!("{:?}", read(2, &welcome)) };
    assert_eq!(*found, Welcome { id: 5, ..Welcome::default() });
    assert!(read(2, &welcome[..11]).is_err(), "without a version");
}

#[test]
fn records_are_written_and_read_as_documented() {
    let records = [
        (
            "open",
            Record::Open(Open {
                peer: 42,
                name: "tcp".into(),
                deadline: Duration::from_secs(10),
                meta: Bytes::from_static(b"meta"),
            }),
        ),
        ("accept", Record::Accept(Bytes::from_static(b"meta"))),
        ("data", Record::Data(Bytes::from_static(b"bytes"))),
        ("end", Record::End(5)),
        ("reset", Record::Reset(Code::APPLICATION, "no".into())),
    ];
    for (name, record) in records {
        let whole = golden(&format!("record-{name}"));
        assert_eq!(record.encode(), whole, "{name} is written otherwise");
        let head = RecordHead::decode(*whole.first_chunk::<RECORD_HEAD>().unwrap()).unwrap();
        assert_eq!(head.len, whole.len() - RECORD_HEAD);
        assert_eq!(head.record(whole.slice(RECORD_HEAD..)), Ok(record), "{name} is read otherwise");
    }
}

/// A block of the worked example, clause 10.
fn example(name: &str) -> Bytes {
    let document = include_str!("../PROTOCOL.md");
    let block = document.split("```").find_map(|block| block.strip_prefix(&format!("hex {name}\n")));
    uncomment(block.unwrap_or_else(|| panic!("no block {name}")).lines())
}

/// Both sides of the conversation send what clause 10 shows, byte by byte.
#[test]
fn both_sides_produce_the_worked_example() {
    let now = std::time::Instant::now();
    let hello = Hello { role: Role::Service, name: "greeter".into(), ..Hello::default() };
    let mut client = Conn::client(hello, now, Limits::default());
    let mut server = Conn::server(now, Limits::default());
    assert_eq!(said(&mut client), example("hello"));
    let told = server.next(now, &mut BytesMut::from(&example("hello")[..]));
    assert!(matches!(told, Ok(Some(Event::Hello(hello))) if hello.name == "greeter"));
    server.welcome(Welcome {
        id: 4,
        incarnation: (17, 0),
        cluster: [7; 16],
        node: "node-1".into(),
        peers: vec!["10.0.0.2:30011".into()],
        ..Welcome::default()
    });
    assert_eq!(said(&mut server), example("welcome"));
    assert!(matches!(
        client.next(now, &mut BytesMut::from(&example("welcome")[..])),
        Ok(Some(Event::Welcome(_)))
    ));
    let call = Call {
        id: 1,
        deadline: Duration::from_secs(5),
        peer: 1_001,
        method: "greet".into(),
        body: Bytes::from_static(b"world"),
    };
    let steps = [
        (&mut client, "register", Frame::Register(Names { id: 1, names: vec!["greet".into()] })),
        (&mut server, "done", Frame::Done(Done { id: 1, code: Code::OK, text: String::new() })),
    ];
    for (from, name, frame) in steps {
        from.send(frame);
        assert_eq!(said(from), example(name), "{name}");
    }
    server.send(Frame::Call(call));
    assert_eq!(said(&mut server), example("call"));
    client.send(Frame::Reply(Reply { id: 1, body: Bytes::from_static(b"hello world") }));
    assert_eq!(said(&mut client), example("reply"));
}

fn said(conn: &mut Conn) -> Bytes {
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let count = conn.chunks(&mut slices);
    let said: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
    conn.advance(said.len());
    said.into()
}

/// Every golden frame, as one conversation with either side, cut in two at every byte.
#[test]
fn frames_are_read_wherever_they_are_split() {
    let now = std::time::Instant::now();
    let yamux = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9];
    for is_client in [false, true] {
        let mut bytes = if is_client { Vec::new() } else { limes_wire::conn::MAGIC.to_vec() };
        let first = if is_client { "welcome" } else { "hello" };
        bytes.extend_from_slice(&golden(first));
        for frame in frames().iter().filter(|frame| !["hello", "welcome"].contains(&frame.name())) {
            if !matches!(frame, Frame::Extension(_)) {
                bytes.extend_from_slice(&golden(frame.name()));
            }
            bytes.extend_from_slice(&yamux);
        }
        let hear = |pieces: [&[u8]; 2]| {
            let limits = Limits::default();
            let mut conn = match is_client {
                true => Conn::client(Hello::default(), now, limits),
                false => Conn::server(now, limits),
            };
            let (mut input, mut events, mut streams) = (BytesMut::new(), Vec::new(), Vec::new());
            for piece in pieces {
                input.extend_from_slice(piece);
                while let Some(event) = conn.next(now, &mut input).unwrap() {
                    match event {
                        // Bytes of streams may arrive in other pieces.
                        Event::Yamux(part) => streams.extend_from_slice(&part),
                        event => events.push(event),
                    }
                    conn.welcome(Welcome::default());
                }
            }
            assert!(input.is_empty(), "{} bytes are left", input.len());
            (events, streams)
        };
        let (whole, streams) = hear([&bytes, &[]]);
        // Ping and pong are the connection's own.
        assert_eq!((whole.len(), streams.len()), (frames().len() - 4, (frames().len() - 2) * yamux.len()));
        for cut in 0..bytes.len() {
            let heard = hear([&bytes[..cut], &bytes[cut..]]);
            assert!(heard.0 == whole && heard.1 == streams, "cut at {cut} of {}", bytes.len());
        }
    }
}

#[test]
fn every_golden_file_is_tested() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let files =
        std::fs::read_dir(dir).unwrap().filter(|file| file.as_ref().unwrap().path().is_file()).count();
    assert_eq!(files, frames().len() + 5);
}

/// PROTOCOL.md shows the codes and the steps of a stream as the code has them.
#[test]
fn document_agrees_with_the_code() {
    use limes_wire::stream::{Input, State};
    let document = include_str!("../PROTOCOL.md");
    for (code, name) in Code::ALL {
        assert!(document.contains(&format!("| {} | {name} |", code.0)), "{name} is not in clause 8");
    }
    // Clause 9.1.
    use limes_wire::limits;
    let bounds = [
        ("head", limits::HEAD_MAX, "bytes"),
        ("name of a method, topic, service or node", limits::NAME_MAX, "bytes"),
        ("meta of a hello or OPEN", limits::META_MAX, "bytes"),
        ("names in one register, withdraw, subscribe or unsubscribe", limits::NAMES_MAX, ""),
        ("text", limits::TEXT_MAX, "bytes"),
        ("ticket", limits::TICKET_MAX, "bytes"),
        ("addresses in a list", limits::PEERS_MAX, ""),
        ("DATA", limits::DATA_MAX >> 10, "KiB"),
        ("other records", limits::RECORD_MAX >> 10, "KiB"),
        ("bytes of a yamux frame", limits::YAMUX_DATA_MAX >> 20, "MiB"),
    ];
    for (what, most, unit) in bounds {
        let row = format!("| {what} | {} |", format!("{} {unit}", thousands(most)).trim());
        assert!(document.contains(&row), "clause 9.1 lacks: {row}");
    }
    let inputs = [
        Input::Accept,
        Input::SendData,
        Input::SendEnd,
        Input::GotData,
        Input::GotEnd,
        Input::Reset,
        Input::Cut,
    ];
    for state in State::ALL {
        let steps: Vec<String> = inputs
            .iter()
            .map(|input| state.step(*input).map_or_else(|_| "-".to_owned(), |next| format!("{next:?}")))
            .collect();
        let row = format!("| {state:?} | {} |", steps.join(" | "));
        assert!(document.contains(&row), "clause 7.7 lacks: {row}");
    }
}

/// A number as the document writes it: 65,535.
fn thousands(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1_000), number % 1_000),
    }
}
