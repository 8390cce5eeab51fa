//! A stream much larger than what a gateway may hold, to a reader that is slow at first.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::Duration;

use support::Bed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of the stream.
const BYTES: usize = 64 << 20;
/// What one stream may add to each gateway's memory.
const BOUND_KB: u64 = 24 << 10;

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Byte `n` of the stream.
fn byte(n: usize) -> u8 {
    (n ^ (n >> 8) ^ (n >> 16)) as u8
}

#[tokio::test]
async fn a_stream_to_a_slow_reader_arrives_whole_and_gateways_stay_small() {
    let bed = Bed::start(3).await;
    let edge = bed.edge(1).await;
    let service = bed.service(3, "sink").await;
    let pids: Vec<u32> = [1, 3].iter().map(|i| bed.cluster.node(*i).pid().unwrap()).collect();
    let before: Vec<u64> = pids.iter().map(|pid| resident_kb(*pid)).collect();
    let mut near = edge.open_stream("sink", "").await.unwrap();
    let mut far = service.accept_stream().await.unwrap();
    let writer = tokio::spawn(async move {
        let mut at = 0;
        while at < BYTES {
            let block: Vec<u8> = (at..at + (64 << 10)).map(byte).collect();
            near.write_all(&block).await.unwrap();
            at += block.len();
        }
        near.shutdown().await.unwrap();
    });
    let mut most = before.clone();
    let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        if at < 2 << 20 {
            // Slow: everything on the way fills up.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if at % (8 << 20) < buffer.len() {
            for (most, pid) in most.iter_mut().zip(&pids) {
                *most = (*most).max(resident_kb(*pid));
            }
        }
        let read = far.stream.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        let wrong = buffer[..read].iter().enumerate().find(|(n, got)| **got != byte(at + n));
        assert!(wrong.is_none(), "byte {}", at + wrong.unwrap().0);
        at += read;
    }
    writer.await.unwrap();
    assert_eq!(at, BYTES);
    for (before, most) in before.iter().zip(&most) {
        println!("a gateway grew from {before} to {most} KiB");
        assert!(most - before < BOUND_KB, "{before} to {most} KiB");
    }
}
