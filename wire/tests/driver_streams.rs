//! Streams are pipes (R8): ordered, complete, bounded, half-closed, with an explicit end.
#![cfg(feature = "tokio")]

mod driver_support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driver_support::*;
use limes_wire::frame::Frame;
use limes_wire::limits::{self, Limits};
use limes_wire::stream::Record;
use limes_wire::{Code, Conn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::time::timeout;

#[tokio::test]
async fn directions_end_independently() {
    for opener_ends_first in [true, false] {
        let (client, mut server) = pair(64 << 10).await;
        let (near, far) = stream_between(&client, &mut server).await;
        let (mut first, mut second) = if opener_ends_first { (near, far) } else { (far, near) };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let mut text = String::new();
        second.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "question");
        // The other direction still carries.
        second.write_all(&pattern(0, 200_000)).await.unwrap();
        second.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        first.read_to_end(&mut bytes).await.unwrap();
        assert!(bytes == pattern(0, 200_000));
        assert!(first.write_all(b"more").await.is_err(), "a write after END fails");
    }
}

#[tokio::test]
async fn a_hundred_megabytes_reach_a_slow_reader_in_bounded_memory() {
    const TOTAL: usize = 100_000_000;
    let (client, mut server) = pair(64 << 10).await;
    let (mut near, mut far) = stream_between(&client, &mut server).await;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let writer = tokio::spawn(async move {
        let piece = pattern(0, 251 * 3 * 256);
        while counter.load(Ordering::Relaxed) < TOTAL {
            near.write_all(&piece).await.unwrap();
            counter.fetch_add(piece.len(), Ordering::Relaxed);
        }
        near.shutdown().await.unwrap();
        near
    });
    let (mut read, mut under_way) = (0, 0);
    let mut buf = vec![0; 1 << 20];
    loop {
        let got = far.read(&mut buf).await.unwrap();
        if got == 0 {
            break;
        }
        if read % (1 << 20) < got {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            under_way = under_way.max(written.load(Ordering::Relaxed).saturating_sub(read));
        }
        assert!(
            buf[..got] == pattern(read % (251 * 3 * 256), got)
                || read % (251 * 3 * 256) + got > 251 * 3 * 256
        );
        read += got;
    }
    assert_eq!(read, written.load(Ordering::Relaxed));
    assert!(under_way < 18 << 20, "{under_way} bytes were under way");
    assert!(under_way > limits::STREAM_WINDOW, "{under_way} bytes: the reader was not slow");
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn both_directions_run_at_full_speed_from_two_tasks_each() {
    const TOTAL: usize = 20_000_000;
    let (near, far) = sockets().await;
    let (client, mut server) = greet(near, far).await;
    let (near, far) = stream_between(&client, &mut server).await;
    let mut tasks = Vec::new();
    for stream in [near, far] {
        let (mut reader, mut writer) = split(stream);
        tasks.push(tokio::spawn(async move {
            for at in (0..TOTAL).step_by(100_000) {
                writer.write_all(&pattern(at, 100_000)).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        }));
        tasks.push(tokio::spawn(async move {
            let mut buf = vec![0; 100_000];
            for at in (0..TOTAL).step_by(100_000) {
                reader.read_exact(&mut buf).await.unwrap();
                assert!(buf == pattern(at, 100_000));
            }
            assert_eq!(reader.read(&mut buf).await.unwrap(), 0);
        }));
    }
    for task in tasks {
        timeout(PATIENCE, task).await.expect("stuck").unwrap();
    }
}

#[tokio::test]
async fn a_request_larger_than_the_window_needs_no_flush() {
    let (client, mut server) = pair(64 << 10).await;
    let (mut near, mut far) = stream_between(&client, &mut server).await;
    let len = limits::STREAM_WINDOW * 2 + 777;
    let answer = tokio::spawn(async move {
        let mut request = vec![0; len];
        far.read_exact(&mut request).await.unwrap();
        far.write_all(b"got it").await.unwrap();
        far
    });
    near.write_all(&pattern(0, len)).await.unwrap();
    let mut reply = [0; 6];
    timeout(PATIENCE, near.read_exact(&mut reply)).await.expect("stuck").unwrap();
    drop(answer.await.unwrap());
}

#[tokio::test]
async fn lost_connection_is_an_error_for_reader_and_writer() {
    let (client, mut server) = pair(64 << 10).await;
    let (mut near, mut far) = stream_between(&client, &mut server).await;
    near.write_all(b"half of wh").await.unwrap();
    let mut buf = [0; 10];
    far.read_exact(&mut buf).await.unwrap();
    client.task.abort();
    assert_eq!(far.read(&mut buf).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(far.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(near.read(&mut buf).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn dropped_stream_is_an_error_and_wakes_a_writer_without_credit() {
    let (client, mut server) = pair(64 << 10).await;
    for ended_before in [false, true] {
        let (near, mut far) = stream_between(&client, &mut server).await;
        let writer = tokio::spawn(async move {
            let error = far.write_all(&vec![0; 4 << 20]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut near = near;
        if ended_before {
            near.shutdown().await.unwrap();
        }
        drop(near);
        timeout(PATIENCE, writer).await.expect("the writer was not woken").unwrap();
    }
}

#[tokio::test]
async fn reset_with_its_reason_follows_the_bytes_that_were_sent_before() {
    let (client, mut server) = pair(64 << 10).await;
    let (mut near, mut far) = stream_between(&client, &mut server).await;
    near.write_all(b"this much").await.unwrap();
    near.reset(Code::APPLICATION, "no more").await;
    let mut got = Vec::new();
    let error = far.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::ConnectionReset, "APPLICATION: no more".into())
    );
    assert_eq!(got, b"this much");

    let mut near = client.open().await.unwrap();
    near.write_open(&Default::default()).await.unwrap();
    let mut far = server.stream().await;
    far.read_open().await.unwrap();
    far.reset(Code::REFUSED, "not today").await;
    let error = near.read_accept().await.unwrap_err();
    assert_eq!((error.code(), error.text()), (Code::REFUSED, "not today"));
}

#[tokio::test]
async fn reset_after_an_abandoned_write_is_still_a_reset() {
    let (client, mut server) = pair(64 << 10).await;
    let (mut near, mut far) = stream_between(&client, &mut server).await;
    let bytes = pattern(0, 2 * limits::STREAM_WINDOW);
    // Without credit a record is left half written.
    timeout(Duration::from_millis(100), near.write_all(&bytes)).await.unwrap_err();
    let reset = tokio::spawn(near.reset(Code::CANCELLED, "given up"));
    let mut got = Vec::new();
    let error = far.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(error.to_string(), "CANCELLED: given up");
    assert!(got.len() > limits::STREAM_WINDOW - 1_000 && bytes.starts_with(&got));
    reset.await.unwrap();
}

#[tokio::test]
async fn end_with_a_wrong_count_is_an_error() {
    let records: [(&[Record], ErrorKind); 5] = [
        (&[Record::Data("abc".into()), Record::End(4)], ErrorKind::InvalidData),
        (&[Record::Data("abc".into()), Record::End(0)], ErrorKind::InvalidData),
        (&[Record::Data("abc".into()), Record::Accept("".into())], ErrorKind::InvalidData),
        (&[Record::Data("abc".into()), Record::Open(Default::default())], ErrorKind::InvalidData),
        (&[Record::Data("abc".into())], ErrorKind::ConnectionReset),
    ];
    let (client, mut server) = pair(64 << 10).await;
    for (records, kind) in records {
        let (near, mut far) = stream_between(&client, &mut server).await;
        let mut raw = near.into_raw();
        for record in records {
            raw.stream.write_all(&record.encode()).await.unwrap();
        }
        raw.stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        let error = far.read_to_end(&mut got).await.unwrap_err();
        assert_eq!((error.kind(), &got[..]), (kind, &b"abc"[..]), "{records:?}: {error}");
        assert!(far.read(&mut [0; 8]).await.is_err(), "an error lasts");
    }
}

#[tokio::test]
async fn streams_beyond_the_limit_are_busy_until_others_end() {
    let limits = Limits { streams: 3, ..Limits::default() };
    let (near, far) = tokio::io::duplex(64 << 10);
    let mut client = Peer::start(near, Conn::client(Default::default(), now(), limits));
    let mut server = Peer::server(far);
    assert!(matches!(client.next().await, Called::Welcome(_)));
    for _ in 0..3 {
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(stream_between(&client, &mut server).await);
        }
        assert_eq!(client.open().await.err(), Some(Code::BUSY));
        // Opened by the other side, a fourth is refused and only that.
        let mut extra = server.open().await.unwrap();
        extra.write_open(&Default::default()).await.unwrap();
        assert!(extra.read_accept().await.is_err());
    }
    client.send(call(1, "well"));
    assert!(matches!(client.frame().await, Frame::Reply(_)));
}

#[tokio::test]
async fn thousand_streams_open_concurrently_and_sequentially() {
    let (near, far) = sockets().await;
    let (client, mut server) = greet(near, far).await;
    for _ in 0..2 {
        let mut open = Vec::new();
        for _ in 0..500 {
            open.push(stream_between(&client, &mut server).await);
        }
        for (near, far) in &mut open {
            near.write_all(b"ping").await.unwrap();
            let mut buf = [0; 4];
            far.read_exact(&mut buf).await.unwrap();
            far.write_all(&buf).await.unwrap();
            near.read_exact(&mut buf).await.unwrap();
        }
    }
    for _ in 0..1_000 {
        let (mut near, mut far) = stream_between(&client, &mut server).await;
        near.shutdown().await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap() + far.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_call_overtakes_a_stream() {
    let (near, far) = sockets().await;
    let (mut client, mut server) = greet(near, far).await;
    let (mut near, mut far) = stream_between(&client, &mut server).await;
    let bulk = tokio::spawn(async move { while near.write_all(&[0; 100_000]).await.is_ok() {} });
    let carried = Arc::new(AtomicUsize::new(0));
    let counter = carried.clone();
    let sink = tokio::spawn(async move {
        let mut buf = vec![0; 1 << 20];
        while let Ok(read) = far.read(&mut buf).await {
            counter.fetch_add(read, Ordering::Relaxed);
        }
    });
    for id in 0..100 {
        let before = carried.load(Ordering::Relaxed);
        client.send(call(id, "quick"));
        assert!(matches!(client.frame().await, Frame::Reply(_)));
        let meanwhile = carried.load(Ordering::Relaxed) - before;
        assert!(meanwhile < 16 << 20, "{meanwhile} bytes of a stream went before a call");
    }
    assert!(carried.load(Ordering::Relaxed) > 1 << 20, "the stream did not run");
    bulk.abort();
    sink.abort();
}

#[tokio::test]
async fn streams_of_a_closed_connection_are_gone() {
    let (client, mut server) = pair(64 << 10).await;
    let (mut near, _far) = stream_between(&client, &mut server).await;
    server.task.abort();
    assert!(near.read(&mut [0; 1]).await.is_err());
    let (reply, opened) = tokio::sync::oneshot::channel();
    client.mailbox.push_always(Do::Open(reply));
    assert!(!matches!(opened.await, Ok(Ok(_))));
}
