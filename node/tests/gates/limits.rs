//! Each limit is reported to whoever crosses it (PROTOCOL 9.2).

use std::time::Duration;

use bytes::Bytes;
use limes_node::config::{Cap, Mark, Size};
use limes_sdk::{Kind, Service};
use limes_wire::frame::{Frame, Hello, Names, Ran};
use limes_wire::{Code, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::raw::{Raw, call, metric};
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
    let (mut raw, welcome) = Raw::edge(&bed.edges(1)).await;
    let told = (welcome.max_calls, welcome.max_queued, welcome.max_body, welcome.max_streams);
    assert_eq!(told, (4, 64 << 10, 256 << 10, 2), "the welcome names what a client must keep to");

    // Calls in flight.
    for id in 1..=5 {
        raw.send(call(id, "hang", 10)).await;
    }
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (5, Code::BUSY, Ran::No), "{error:?}");
    assert!(error.text.contains("limits.calls"), "{error:?}");
    // A number in use.
    raw.send(Frame::Cancel { id: 4 }).await;
    raw.send(call(1, "hang", 10)).await;
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (1, Code::PROTOCOL, Ran::No), "{error:?}");
    drop(raw);

    // Bytes in flight: the first may be larger than all of it, the next may not come on top.
    let (mut raw, _) = Raw::edge(&bed.edges(1)).await;
    raw.send(call(1, "hang", 100 << 10)).await;
    raw.send(call(2, "hang", 100)).await;
    let Frame::Error(error) = raw.frame().await else { panic!() };
    assert_eq!((error.id, error.code, error.ran), (2, Code::BUSY, Ran::No), "{error:?}");
    assert!(error.text.contains("limits.queued"), "{error:?}");
    // A body, before a byte of it has come.
    raw.socket.write_all(&[0x10, 0, 0, 8, 0, 4, 0, 1]).await.unwrap();
    let goaway = raw.farewell().await;
    assert_eq!(goaway.code, Code::TOO_LARGE, "{goaway:?}");

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
    assert!(metric(&bed, "limes_connections_turned_away_total").await >= 1);
    assert!(metric(&bed, "limes_connections_cut_total{port=\"edges\",reason=\"TOO_LARGE\"}").await >= 1);
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
    // Answers that nobody reads are held: 14 MiB of each, less what the sockets take.
    let mut asker = raws.pop().unwrap();
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
    assert_eq!((error.code, error.ran), (Code::BUSY, Ran::No), "{error:?}");
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
