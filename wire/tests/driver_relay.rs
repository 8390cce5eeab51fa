//! A stream carried by a gateway from one connection to another is still a pipe.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]
#![cfg(feature = "tokio")]

mod driver_support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driver_support::*;
use limes_wire::Code;
use limes_wire::driver::RecordStream;
use limes_wire::limits;
use limes_wire::stream::Record;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Sends bytes and the end from one end to the other.
async fn send_to_end(from: &mut RecordStream, to: &mut RecordStream, len: usize) {
    let bytes = pattern(0, len);
    let send = async {
        from.write_all(&bytes).await.unwrap();
        from.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) =
        timeout(PATIENCE, async { tokio::join!(send, to.read_to_end(&mut got)) }).await.expect("stuck");
    assert_eq!(read.unwrap(), len);
    assert!(got == bytes);
}

#[tokio::test]
async fn both_directions_arrive_complete_and_end_independently() {
    let mut way = Gateway::new().await;
    let (mut near, mut far, task) = way.stream().await;
    send_to_end(&mut near, &mut far, 1_000_000).await;
    send_to_end(&mut far, &mut near, 3_000_000).await;
    let carried = timeout(PATIENCE, task).await.expect("the relay goes on").unwrap();
    assert!((4_000_000..4_010_000).contains(&carried), "{carried}");
}

#[tokio::test]
async fn many_streams_run_concurrently() {
    let mut way = Gateway::new().await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let (mut near, mut far, task) = way.stream().await;
        tasks.push(task);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(far);
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
            writer.shutdown().await.unwrap();
            far = reader.unsplit(writer);
            drop(far);
        });
        tokio::spawn(async move {
            for at in (0..1_000_000).step_by(50_000) {
                near.write_all(&pattern(at, 50_000)).await.unwrap();
                let mut buf = vec![0; 50_000];
                near.read_exact(&mut buf).await.unwrap();
                assert!(buf == pattern(at, 50_000));
            }
            near.shutdown().await.unwrap();
            assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
        });
    }
    for task in tasks {
        assert!(timeout(PATIENCE, task).await.expect("stuck").unwrap() > 2_000_000);
    }
}

#[tokio::test]
async fn reset_is_relayed_with_its_reason() {
    let mut way = Gateway::new().await;
    let (near, mut far, task) = way.stream().await;
    near.reset(Code::CANCELLED, "changed my mind").await;
    let error = far.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.to_string(), "CANCELLED: changed my mind");
    timeout(PATIENCE, task).await.expect("the relay goes on").unwrap();
}

#[tokio::test]
async fn failing_end_resets_the_other_in_any_state() {
    for ended_before in [false, true] {
        let mut way = Gateway::new().await;
        let (mut near, mut far, task) = way.stream().await;
        let (mut stuck_near, mut stuck_far, stuck_task) = way.stream().await;
        let (idle_near, idle_far, idle_task) = way.stream().await;
        if ended_before {
            near.shutdown().await.unwrap();
            assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
            stuck_near.shutdown().await.unwrap();
        }
        let writer = tokio::spawn(async move {
            let error = stuck_far.write_all(&vec![0; 64 << 20]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        way.edge.task.abort();
        if ended_before {
            // It has sent its END: only what would still be sent to it is lost.
            let wait = async { while far.write_all(&[0; 100]).await.is_ok() {} };
            timeout(PATIENCE, wait).await.expect("the writer did not learn of the reset");
        } else {
            let error = timeout(PATIENCE, far.read(&mut [0; 8]))
                .await
                .expect("the reader did not learn of the reset");
            assert!(error.unwrap_err().to_string().starts_with("GONE"));
        }
        timeout(PATIENCE, writer)
            .await
            .expect("the writer without credit did not learn of the reset")
            .unwrap();
        let mut idle_far = idle_far;
        assert!(
            timeout(PATIENCE, idle_far.read(&mut [0; 8]))
                .await
                .expect("the other end was not closed")
                .is_err()
        );
        for task in [task, stuck_task, idle_task] {
            timeout(PATIENCE, task).await.expect("the relay goes on").unwrap();
        }
        drop((near, stuck_near, idle_near));
    }
}

#[tokio::test]
async fn close_without_an_end_record_is_a_reset() {
    let mut way = Gateway::new().await;
    for cut in [&[][..], &[3, 0, 0, 0, 9, 1, 2]] {
        let (near, mut far, task) = way.stream().await;
        let mut raw = near.into_raw();
        raw.stream.write_all(&Record::Data("all I have".into()).encode()).await.unwrap();
        raw.stream.write_all(cut).await.unwrap();
        raw.stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        let error = far.read_to_end(&mut got).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(got.starts_with(b"all I have"));
        timeout(PATIENCE, task).await.expect("the relay goes on").unwrap();
    }
}

#[tokio::test]
async fn malformed_records_end_the_stream_and_not_the_connection() {
    let mut way = Gateway::new().await;
    let (near, mut far, task) = way.stream().await;
    let mut raw = near.into_raw();
    raw.stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(far.read(&mut [0; 8]).await.is_err());
    timeout(PATIENCE, task).await.expect("the relay goes on").unwrap();
    way.stream().await;
}

#[tokio::test]
async fn slow_reader_blocks_the_writer_through_the_gateway() {
    const TOTAL: usize = 100_000_000;
    let mut way = Gateway::new().await;
    let (mut near, mut far, task) = way.stream().await;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let writer = tokio::spawn(async move {
        let piece = vec![5; 100_000];
        for _ in 0..TOTAL / piece.len() {
            near.write_all(&piece).await.unwrap();
            counter.fetch_add(piece.len(), Ordering::Relaxed);
        }
        near.shutdown().await.unwrap();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
    });
    // The reader reads nothing: the writer must stop.
    let mut before = 0;
    let stopped = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = written.load(Ordering::Relaxed);
            if now == before && now > 0 {
                return now;
            }
            before = now;
        }
    };
    let under_way = timeout(PATIENCE, stopped).await.expect("the writer did not stop");
    assert!(under_way <= 2 * limits::STREAM_WINDOW + (1 << 20), "{under_way} bytes are under way");
    let mut got = 0;
    let mut buf = vec![0; 1 << 20];
    while got < TOTAL {
        let read = far.read(&mut buf).await.unwrap();
        assert!(read > 0 && buf[..read].iter().all(|byte| *byte == 5));
        got += read;
    }
    assert_eq!(far.read(&mut buf).await.unwrap(), 0);
    far.shutdown().await.unwrap();
    writer.await.unwrap();
    timeout(PATIENCE, task).await.expect("the relay goes on").unwrap();
}
