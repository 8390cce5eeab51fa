//! Each limit is reported to whoever crosses it (PROTOCOL 9.2).

use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_node::config::{Cap, Mark, Size};
use limes_sdk::{Kind, Service};
use limes_wire::frame::{Execution, Frame, Hello, Names};
use limes_wire::stream::{Open, Record};
use limes_wire::{Code, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::raw::{Raw, call, encode, metric, yamux};
use crate::support::{Bed, PATIENCE, patient, until};

/// A service whose "hang" never answers, and which holds what it is sent.
async fn hanging(bed: &Bed) -> Service {
    let service = bed.service(1, "hanging").await;
    let hang = |_| async {
        std::future::pending::<()>().await;
        Ok(Bytes::new())
    };
    service.register("hang", hang).await.unwrap();
    service
}

/// Why the node resets a stream; `bytes` is what has been read of yamux's frames, and goes on to the next.
async fn reset(raw: &mut Raw, bytes: &mut Vec<u8>, stream: u32) -> Code {
    let mut said = Vec::new();
    loop {
        while let Some(&[_, kind, _, _, s0, s1, s2, s3, l0, l1, l2, l3]) = bytes.first_chunk::<12>() {
            let len = if kind == 0 { u32::from_be_bytes([l0, l1, l2, l3]) as usize } else { 0 };
            if bytes.len() < 12 + len {
                break;
            }
            let frame: Vec<u8> = bytes.drain(..12 + len).collect();
            if [s0, s1, s2, s3] == stream.to_be_bytes() {
                said.extend_from_slice(&frame[12..]);
            }
        }
        if let [5, _, _, _, _, c0, c1, c2, c3, ..] = said[..] {
            return Code(u32::from_be_bytes([c0, c1, c2, c3]));
        }
        match raw.next().await {
            Some(Event::Yamux(part)) => bytes.extend_from_slice(&part),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn each_limit_is_reported_to_whoever_crosses_it() {
    let bed = Bed::start_with(1, |config| {
        patient(config);
        config.limits.calls = 4;
        config.limits.queued = Size::bytes(64 << 10);
        config.limits.body = Size::bytes(256 << 10);
        config.limits.streams = 2;
        config.limits.handshakes = 8;
        config.limits.per_address = Cap::At(20);
        config.limits.names = 100;
    })
    .await;
    let _service = hanging(&bed).await;
    calls_and_bytes(&bed).await;
    streams(&bed).await;
    names_of_a_service(&bed).await;
    connections(&bed).await;
}

async fn calls_and_bytes(bed: &Bed) {
    let (mut raw, welcome) = Raw::edge(&bed.edges(1)).await;
    let told = (welcome.max_calls, welcome.max_queued, welcome.max_body, welcome.max_streams);
    assert_eq!(told, (4, 64 << 10, 256 << 10, 2), "the welcome names what a client must keep to");

    // Calls in flight.
    for id in 1..=5 {
        raw.send(call(id, "hang", 10)).await;
    }
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (5, Code::BUSY, Execution::NotStarted), "{error:?}");
    assert!(error.text.contains("limits.calls"), "{error:?}");
    // A number in use.
    raw.send(Frame::Cancel { id: 4 }).await;
    raw.send(call(1, "hang", 10)).await;
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (1, Code::PROTOCOL, Execution::NotStarted), "{error:?}");
    drop(raw);

    // Bytes in flight: the first may be larger than all of it, the next may not come on top.
    let (mut raw, _) = Raw::edge(&bed.edges(1)).await;
    raw.send(call(1, "hang", 100 << 10)).await;
    raw.send(call(2, "hang", 100)).await;
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (2, Code::BUSY, Execution::NotStarted), "{error:?}");
    assert!(error.text.contains("limits.queued"), "{error:?}");
    // A body, before a byte of it has come.
    raw.socket.write_all(&[0x10, 0, 0, 8, 0, 4, 0, 1]).await.unwrap();
    let goaway = raw.farewell().await;
    assert_eq!(goaway.code, Code::TOO_LARGE, "{goaway:?}");
}

async fn streams(bed: &Bed) {
    // The meta of a stream, and what is no OPEN.
    let (mut raw, _) = Raw::edge(&bed.edges(1)).await;
    let open = |name: &str, meta: usize| {
        Record::Open(Open { name: name.into(), meta: vec![0; meta].into(), ..Open::default() }).encode()
    };
    let strange = [
        (1, open("hanging", 100 << 10), Code::TOO_LARGE),
        (3, open(&"x".repeat(256), 0), Code::PROTOCOL),
        (5, Record::End(0).encode(), Code::PROTOCOL),
    ];
    let mut bytes = Vec::new();
    for (stream, record, code) in strange {
        let frame = [yamux(0, 1, stream, record.len() as u32), record.to_vec()].concat();
        raw.socket.write_all(&frame).await.unwrap();
        assert_eq!(reset(&mut raw, &mut bytes, stream).await, code);
    }
    drop(raw);

    // Streams.
    let edge = bed.edge(1).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(edge.open_stream("hanging", "").await.unwrap());
    }
    assert!(edge.open_stream("hanging", "").await.is_err());
    drop(open);
    until("streams are free again", || async { edge.open_stream("hanging", "").await.ok() }).await;
    edge.close().await;
}

async fn names_of_a_service(bed: &Bed) {
    // Names of one service.
    let mut service = Raw::service(&bed.services(1)).await;
    let names = |from: usize, to: usize| (from..to).map(|n| format!("m{n}").as_str().into()).collect();
    service.send(Frame::Register(Names { id: 1, names: names(0, 100) })).await;
    let Frame::Done(done) = service.frame().await else { panic!() };
    assert_eq!(done.code, Code::OK, "{done:?}");
    service.send(Frame::Subscribe(Names { id: 2, names: names(0, 1) })).await;
    let Frame::Done(done) = service.frame().await else { panic!() };
    assert!(done.code == Code::LIMIT && done.text.contains("limits.names"), "{done:?}");
    service.send(Frame::Withdraw(Names { id: 3, names: names(0, 50) })).await;
    assert!(matches!(service.frame().await, Frame::Done(done) if done.code == Code::OK));
    service.send(Frame::Register(Names { id: 4, names: names(0, 50) })).await;
    assert!(matches!(service.frame().await, Frame::Done(done) if done.code == Code::OK));

    // However many come at once, they are counted one after the other.
    let mut service = Raw::service(&bed.services(1)).await;
    for id in 0..20 {
        service
            .send(Frame::Subscribe(Names { id, names: names(id as usize * 30, id as usize * 30 + 30) }))
            .await;
    }
    let mut taken = 0;
    for id in 0..20 {
        let Frame::Done(done) = service.frame().await else { panic!() };
        assert_eq!(done.id, id, "in their order");
        taken += usize::from(done.code == Code::OK);
    }
    assert_eq!(taken, 3, "30 names each, and 100 in all");
}

async fn connections(bed: &Bed) {
    // Handshakes at once: the oldest of those that say nothing makes room, and is told.
    let mut silent = Vec::new();
    for _ in 0..9 {
        silent.push(TcpStream::connect(bed.edges(1)).await.unwrap());
    }
    let mut said = Vec::new();
    timeout(PATIENCE, silent[0].read_to_end(&mut said)).await.expect("it is closed").unwrap();
    assert!(String::from_utf8_lossy(&said).contains("limits.handshakes"), "{said:?}");
    bed.edge(1).await.close().await;
    drop(silent);

    // Connections of one address.
    let mut held = Vec::new();
    let refused = loop {
        assert!(held.len() <= 20, "nobody is refused");
        let mut raw = Raw::connect(&bed.edges(1), Hello::default()).await;
        match raw.next().await {
            Some(Event::Welcome(_)) => held.push(raw),
            Some(Event::GoAway(goaway)) => break goaway,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused.code == Code::LIMIT && refused.text.contains("limits.per_address"), "{refused:?}");
    held.clear();
    bed.edge(1).await;
    assert!(metric(bed, "limes_connections_turned_away_total").await >= 1);
    assert!(metric(bed, "limes_connections_cut_total{port=\"edges\",reason=\"TOO_LARGE\"}").await >= 1);
}

/// Peers that send all of a large body but its end, and of that a byte now and then: they hold memory up to the
/// mark, and then they go, and others are served again.
async fn parts_of_bodies_go(raws: &mut [Raw], asker: &mut Raw) {
    let bytes = encode(call(1, "echo", 15 << 20));
    for raw in &mut *raws {
        // The first are cut off before the last have begun, perhaps.
        let _ = raw.socket.write_all(&bytes[..bytes.len() - 10_000]).await;
    }
    let (end, mut busy, mut id) = (Instant::now() + PATIENCE, false, 1_000);
    loop {
        for raw in &mut *raws {
            let _ = raw.socket.write_all(&[7]).await;
        }
        sleep(Duration::from_millis(50)).await;
        id += 1;
        asker.send(call(id, "echo", 10)).await;
        match asker.frame().await {
            Frame::Error(error) if error.code == Code::BUSY => busy = true,
            Frame::Reply(_) if busy => break,
            Frame::Reply(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < end, "was busy: {busy}");
    }
    let mut cut = 0;
    for raw in &mut *raws {
        // It may have been cut off in the midst of a write, and then hears nothing.
        let mut last = Vec::new();
        let closed = timeout(Duration::from_millis(100), raw.socket.read_to_end(&mut last)).await;
        cut += usize::from(closed.is_ok());
    }
    assert!(cut > 0, "nobody is cut off");
}

#[tokio::test]
async fn a_node_that_is_full_says_so() {
    let bed = Bed::start_with(1, |config| {
        patient(config);
        config.limits.sessions = 14;
        config.limits.memory = Mark::At(Size::bytes(100 << 20));
    })
    .await;
    let _service = hanging(&bed).await;
    let edge = bed.edge(1).await;
    let mut raws = Vec::new();
    while raws.len() < 12 {
        raws.push(Raw::edge(&bed.edges(1)).await.0);
    }
    let mut more = Raw::connect(&bed.edges(1), Hello::default()).await;
    let goaway = more.farewell().await;
    assert!(goaway.code == Code::LIMIT && goaway.text.contains("limits.sessions"), "{goaway:?}");
    let mut asker = raws.pop().unwrap();
    parts_of_bodies_go(&mut raws[..8], &mut asker).await;
    for raw in &mut raws[..8] {
        *raw = Raw::edge_at_last(&bed.edges(1)).await;
    }
    // Answers that nobody reads are held: 14 MiB of each, less what the sockets take.
    let mut busy = None;
    for raw in &mut raws {
        for id in 1..=7 {
            raw.send(call(id, "echo", 2 << 20)).await;
        }
        sleep(Duration::from_millis(300)).await;
        asker.send(call(99, "echo", 10)).await;
        match asker.frame().await {
            Frame::Reply(_) => {}
            Frame::Error(error) => {
                busy = Some(error);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let error = busy.expect("memory is never over its mark");
    assert_eq!((error.code, error.ran), (Code::BUSY, Execution::NotStarted), "{error:?}");
    assert!(error.text.contains("limits.memory"), "{error:?}");
    assert!(bed.log(1).contains("memory is over limits.memory"));
    let refused = edge.open_stream("hanging", "").await.unwrap_err();
    assert!(refused.kind() == Kind::Busy && refused.text().contains("limits.memory"), "{refused}");
    // One that holds nothing goes, so that it is not the sessions that are too many.
    drop(raws.pop());
    until("a newcomer is told", || async {
        let goaway = Raw::connect(&bed.edges(1), Hello::default()).await.farewell().await;
        (goaway.code == Code::LIMIT && goaway.text.contains("limits.memory")).then_some(())
    })
    .await;
    // Those that are there stay.
    asker.send(Frame::Cancel { id: 5 }).await;
    until("the node lives", || async { bed.cluster.node(1).status().await.map(|_| ()) }).await;
}
