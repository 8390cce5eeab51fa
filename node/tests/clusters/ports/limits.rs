//! The node reports each limit to the peer that exceeds it (PROTOCOL 9.2).

use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_node::config::{Cap, Mark, Size};
use limes_sdk::{Kind, Service};
use limes_wire::frame::{CallError, Execution, Frame, Hello, Names};
use limes_wire::stream::{Open, Record};
use limes_wire::{Code, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::raw::{Raw, call, encode, metric, yamux};
use crate::support::{Bed, PATIENCE, patient, until};

/// A service whose method "hang" never answers.
async fn hanging(bed: &Bed) -> Service {
    let service = bed.service(1, "hanging").await;
    let hang = |_| async {
        std::future::pending::<()>().await;
        Ok(Bytes::new())
    };
    service.register("hang", hang).await.unwrap();
    service
}

/// The code with which the node resets a stream. `bytes` are the yamux bytes read so far; the rest stays for the
/// next call.
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
async fn each_limit_is_reported_to_the_peer_that_exceeds_it() {
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
    let limits = (welcome.max_calls, welcome.max_queued, welcome.max_body, welcome.max_streams);
    assert_eq!(limits, (4, 64 << 10, 256 << 10, 2), "the welcome names the limits");

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

    // Bytes in flight: one request may exceed the limit alone, the next may not.
    let (mut raw, _) = Raw::edge(&bed.edges(1)).await;
    raw.send(call(1, "hang", 100 << 10)).await;
    raw.send(call(2, "hang", 100)).await;
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (2, Code::BUSY, Execution::NotStarted), "{error:?}");
    assert!(error.text.contains("limits.queued"), "{error:?}");
    // A body, before its first byte.
    raw.socket.write_all(&[0x10, 0, 0, 8, 0, 4, 0, 1]).await.unwrap();
    let goaway = raw.farewell().await;
    assert_eq!(goaway.code, Code::TOO_LARGE, "{goaway:?}");
}

async fn streams(bed: &Bed) {
    // The meta of a stream, and records that are not an OPEN.
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

    // Names that are registered concurrently count too.
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
    // Handshakes: the node closes the oldest silent one for a new one, and sends the reason.
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
        assert!(held.len() <= 20, "no connection is refused");
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

/// Peers that send large bodies except for the last bytes, which they send slowly: their memory is over the mark
/// until the node closes connections; then others are served again.
async fn unfinished_bodies_are_given_up(raws: &mut [Raw], asker: &mut Raw) {
    let bytes = encode(call(1, "echo", 15 << 20));
    for raw in &mut *raws {
        // The node may have closed it already.
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
    // An end or an error: the node may have closed it in the middle of a write.
    let ends =
        raws.iter_mut().map(|raw| Box::pin(async { drop(raw.socket.read_to_end(&mut Vec::new()).await) }));
    timeout(PATIENCE, futures::future::select_all(ends)).await.expect("one connection is closed");
}

/// Calls until the node refuses a call or the time is over; gives the refusal.
async fn refusal_within(time: Duration, asker: &mut Raw) -> Option<CallError> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
        asker.send(call(99, "echo", 10)).await;
        match asker.frame().await {
            Frame::Reply(_) => {}
            Frame::Error(error) => return Some(error),
            other => panic!("{other:?}"),
        }
    }
    None
}

/// Peers that send calls and read no answer: the node holds 14 MiB for each, less what the sockets take, until
/// its memory is over the mark. Gives the refusal of the next call.
async fn unread_answers_fill_the_memory(raws: &mut [Raw], asker: &mut Raw) -> CallError {
    let last = raws.len() - 1;
    for (at, raw) in raws.iter_mut().enumerate() {
        for id in 1..=7 {
            raw.send(call(id, "echo", 2 << 20)).await;
        }
        let time = if at == last { PATIENCE } else { Duration::from_millis(300) };
        if let Some(error) = refusal_within(time, asker).await {
            return error;
        }
    }
    panic!("the memory is never over its mark");
}

#[tokio::test]
async fn a_node_without_memory_or_sessions_left_refuses_new_work() {
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
    unfinished_bodies_are_given_up(&mut raws[..8], &mut asker).await;
    for raw in &mut raws[..8] {
        *raw = Raw::edge_at_last(&bed.edges(1)).await;
    }
    let error = unread_answers_fill_the_memory(&mut raws, &mut asker).await;
    assert_eq!((error.code, error.ran), (Code::BUSY, Execution::NotStarted), "{error:?}");
    assert!(error.text.contains("limits.memory"), "{error:?}");
    assert!(bed.log(1).contains("memory is over limits.memory"));
    let refused = edge.open_stream("hanging", "").await.unwrap_err();
    assert!(refused.kind() == Kind::Busy && refused.text().contains("limits.memory"), "{refused}");
    // A session ends, so that the number of sessions is within its limit.
    drop(raws.pop());
    until("a new connection is refused", || async {
        let goaway = Raw::connect(&bed.edges(1), Hello::default()).await.farewell().await;
        (goaway.code == Code::LIMIT && goaway.text.contains("limits.memory")).then_some(())
    })
    .await;
    // Existing sessions stay.
    asker.send(Frame::Cancel { id: 5 }).await;
    until("the node runs", || async { bed.cluster.node(1).status().await.map(|_| ()) }).await;
}
