//! The segment log alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use limes_raft::log::SegmentLog;
use limes_raft::types::{Data, Entry, LogId, TypeConfig};
use limes_routing::{Batch, Epoch, NodeId, Origin};
use openraft::entry::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use tokio::sync::Mutex;

use crate::Options;
use crate::member::online;
use crate::times::Times;

const ROWS: [(usize, usize); 9] =
    [(1, 1), (1, 16), (1, 128), (1, 384), (10, 16), (10, 192), (100, 16), (500, 3), (500, 24)];

pub(crate) fn run(options: &Options) {
    println!("| events per batch | proposers | events/s | p50 ms | p99 ms | bytes/event |");
    println!("|---|---|---|---|---|---|");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (events, proposers) in ROWS {
        runtime.block_on(row(options, events, proposers));
    }
}

/// Appends as Raft's core does: in order, and without waiting for the disk.
struct Core {
    log: SegmentLog,
    next: u64,
}

async fn row(options: &Options, events: usize, proposers: usize) {
    let dir = tempfile::tempdir_in(&options.dir).unwrap();
    let core = Core { log: SegmentLog::open(dir.path()).unwrap(), next: 0 };
    let before = core.log.appended_bytes();
    let core = Arc::new(Mutex::new(core));
    let done = Arc::new(AtomicU64::new(0));
    let origin = Some(Origin { node: NodeId(1), epoch: Epoch(9), number: 1 });
    let batch =
        Batch { origin, time_ms: 1_700_000_000_000, events: (0..events as u64).map(online).collect() };
    let data = Data(batch.encode());
    let begin = Instant::now();
    let proposers_at_work: Vec<_> = (0..proposers)
        .map(|_| {
            let (core, data, done, time) = (core.clone(), data.clone(), done.clone(), options.time);
            tokio::spawn(async move {
                let mut times = Times::default();
                while begin.elapsed() < time {
                    let asked = Instant::now();
                    let (flushed, synced) = TypeConfig::oneshot();
                    let mut core = core.lock().await;
                    let log_id = LogId::new(LeaderId::new(1, 1).to_committed(), core.next);
                    core.next += 1;
                    let entry = Entry { log_id, payload: EntryPayload::Normal(data.clone()) };
                    core.log.append([entry], IOFlushed::<TypeConfig>::signal(flushed)).await.unwrap();
                    drop(core);
                    synced.await.unwrap().unwrap();
                    times.push(asked.elapsed());
                    done.fetch_add(1, Ordering::Relaxed);
                }
                times
            })
        })
        .collect();
    let mut times = Times::default();
    for proposer in proposers_at_work {
        times.add(proposer.await.unwrap());
    }
    let seconds = begin.elapsed().as_secs_f64();
    let written = core.lock().await.log.appended_bytes() - before;
    let all = done.load(Ordering::Relaxed) * events as u64;
    println!(
        "| {events} | {proposers} | {:.0} | {:.2} | {:.2} | {:.1} |",
        all as f64 / seconds,
        times.at(500),
        times.at(990),
        written as f64 / all.max(1) as f64
    );
}
