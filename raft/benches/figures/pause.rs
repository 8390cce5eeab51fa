//! Snapshots of many edges, under a steady load.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limes_raft::{Observer, ProposeError, Replica};
use limes_routing::Verdict;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::Options;
use crate::member::{Gaps, micros, online, start};
use crate::times::memory;

/// Submitters that keep apply busy.
const LOAD: u64 = 64;
/// The number of snapshots.
const SNAPSHOTS: usize = 5;

pub(crate) fn run(options: &Options) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir_in(&options.dir).unwrap();
    let gaps = Arc::new(Gaps::default());
    println!("| figure | value |\n|---|---|");
    runtime.block_on(measure(options, dir.path(), &gaps));
    runtime.shutdown_timeout(Duration::from_secs(5));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begin = Instant::now();
    let replica = runtime.block_on(alone(dir.path(), Arc::new(Gaps::default())));
    let edges = replica.read(|tables| tables.edge_count());
    println!("| restart until up, {edges} edges | {:.2} s |", begin.elapsed().as_secs_f64());
    runtime.shutdown_timeout(Duration::from_secs(5));
}

async fn alone(dir: &Path, observer: Arc<dyn Observer>) -> Replica {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    start(&dir.join("node"), 0, &[addr], listener, observer).await
}

async fn measure(options: &Options, dir: &Path, gaps: &Arc<Gaps>) {
    let before = memory();
    let replica = alone(dir, gaps.clone()).await;
    let seconds = connect(&replica, options.edges).await;
    println!("| {} edges online | {seconds:.1} s, memory {} MB more |", options.edges, memory() - before);
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> =
        (0..LOAD).map(|at| tokio::spawn(work(replica.clone(), options.edges + at, stop.clone()))).collect();
    // The longest time that a reader waits for the tables: apply holds them, or a copy of them.
    let waited = Arc::new(AtomicU64::new(0));
    let reader = std::thread::spawn({
        let (replica, stop, waited) = (replica.clone(), stop.clone(), waited.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                let asked = Instant::now();
                replica.read(|tables| tables.revision());
                waited.fetch_max(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let quiet: Vec<f64> = quiet(gaps).await;
    waited.store(0, Ordering::Relaxed);
    println!("| longest gap between two applied batches without a snapshot | {} |", list(&quiet));
    snapshots(&replica, &dir.join("node/snapshot"), gaps, &waited).await;
    stop.store(true, Ordering::Relaxed);
    for load in load {
        load.await.unwrap();
    }
    reader.join().unwrap();
}

/// Brings edges online; returns the seconds that it took.
async fn connect(replica: &Replica, edges: u64) -> f64 {
    let begin = Instant::now();
    let mut waiting: VecDeque<oneshot::Receiver<Result<Verdict, ProposeError>>> = VecDeque::new();
    for edge in 0..edges {
        if waiting.len() >= 8_000
            && let Some(first) = waiting.pop_front()
        {
            first.await.unwrap().unwrap();
        }
        waiting.push_back(replica.proposer().enqueue(online(edge)).unwrap());
    }
    for last in waiting {
        last.await.unwrap().unwrap();
    }
    begin.elapsed().as_secs_f64()
}

/// Takes snapshots under load, and prints their figures.
async fn snapshots(replica: &Replica, file: &Path, gaps: &Gaps, waited: &AtomicU64) {
    let ms = |micros: u64| micros as f64 / 1e3;
    let (mut took, mut longest) = (Vec::new(), Vec::new());
    for _ in 0..SNAPSHOTS {
        gaps.take();
        let begin = micros();
        let old = std::fs::metadata(file).and_then(|file| file.modified()).ok();
        replica.snapshot().await;
        while std::fs::metadata(file).and_then(|file| file.modified()).ok() == old {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        longest.push(ms(gaps.take()));
        took.push(ms(micros() - begin));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let wait = ms(waited.load(Ordering::Relaxed));
    println!("| the same during a snapshot, {SNAPSHOTS} times | {} |", list(&longest));
    println!("| longest wait of a reader for the tables during the snapshots | {wait:.2} ms |");
    println!("| time of a snapshot | {} |", list(&took));
    println!("| size of a snapshot | {} bytes |", std::fs::metadata(file).map_or(0, |file| file.len()));
}

/// The longest gaps of some intervals without a snapshot.
async fn quiet(gaps: &Gaps) -> Vec<f64> {
    let mut longest = Vec::new();
    for _ in 0..SNAPSHOTS {
        gaps.take();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        longest.push(gaps.take() as f64 / 1e3);
    }
    longest
}

fn list(times: &[f64]) -> String {
    let times: Vec<String> = times.iter().map(|time| format!("{time:.1}")).collect();
    format!("{} ms", times.join(", "))
}

/// One edge comes online repeatedly; each time it takes over its own session.
async fn work(replica: Replica, edge: u64, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        replica.proposer().submit(online(edge)).await.unwrap();
    }
}
