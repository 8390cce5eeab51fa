//! A stream much larger than what a gateway may hold, to a reader that is slow at first.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Bed, memory_kb};

/// Bytes of one block.
const BLOCK: usize = 64 << 10;
/// Blocks of the stream of every run, 40 MiB, and of the long one, 200 MiB.
pub(crate) const BLOCKS: usize = 640;
pub(crate) const MANY_BLOCKS: usize = 3_200;
/// Blocks that the reader reads slowly, so that everything on the way fills up.
const SLOW: usize = 64;
/// What one stream may add to each gateway's memory.
const BOUND_KB: u64 = 16 << 10;

/// Makes a block differ from all others.
fn number_it(number: usize, block: &mut [u8]) {
    block[..8].copy_from_slice(&(number as u64).to_be_bytes());
}

pub(crate) async fn a_stream_to_a_slow_reader_arrives_whole_and_gateways_stay_small(
    bed: &Bed,
    blocks: usize,
) {
    let edge = bed.edge(1).await;
    let service = bed.service(3, "sink").await;
    let pids: Vec<u32> = [1, 3].iter().map(|i| bed.cluster.node(*i).pid().unwrap()).collect();
    let before: Vec<u64> = pids.iter().map(|pid| memory_kb(*pid, "VmRSS:")).collect();
    let mut near = edge.open_stream("sink", "").await.unwrap();
    let mut far = service.accept_stream().await.unwrap();
    let pattern: Vec<u8> = (0..BLOCK).map(|n| (n ^ (n >> 8)) as u8).collect();
    let mut sent = pattern.clone();
    let writer = tokio::spawn(async move {
        for number in 0..blocks {
            number_it(number, &mut sent);
            near.write_all(&sent).await.unwrap();
        }
        near.shutdown().await.unwrap();
    });
    let mut most = before.clone();
    let (mut wanted, mut got) = (pattern, vec![0; BLOCK]);
    for number in 0..blocks {
        if number < SLOW {
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        if number % 64 == 31 {
            for (most, pid) in most.iter_mut().zip(&pids) {
                *most = (*most).max(memory_kb(*pid, "VmRSS:"));
            }
        }
        far.stream.read_exact(&mut got).await.unwrap();
        number_it(number, &mut wanted);
        assert!(got == wanted, "block {number} is not what was sent");
    }
    assert_eq!(far.stream.read(&mut got).await.unwrap(), 0, "the stream ends after the last block");
    writer.await.unwrap();
    for (before, most) in before.iter().zip(&most) {
        println!("a gateway grew from {before} to {most} KiB");
        assert!(most.saturating_sub(*before) < BOUND_KB, "{before} to {most} KiB");
    }
}
