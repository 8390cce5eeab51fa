//! R9 when the power is lost at any call, and on full and failing disks: acknowledged records are never lost.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::fragile::{Call, Fragile};
use crate::model::{Content, Model, SEGMENT, Step, act, open, rounds, wait_closed, work};
use limes_raft::types::Vote;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[tokio::test]
async fn power_loss_loses_no_acknowledged_record() {
    for seed in 0..rounds(120) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut disk = Fragile::new(SEGMENT);
        let mut model = Model { possible: vec![Content::default()] };
        // Three runs, each ended by a power loss at a random call, also while the log opens.
        for run in 0..3 {
            disk.crash_at(random.random_range(0..if run == 0 { 160 } else { 60 }));
            if let Ok(mut log) = open(&disk) {
                model.check(Content::of(&mut log).await, &format!("seed {seed}, run {run}"));
                work(&mut log, &mut model, 60, &mut random).await;
                drop(log);
            }
            wait_closed(&disk);
            disk = disk.after_crash(&mut random);
        }
        let mut log = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.check(Content::of(&mut log).await, &format!("seed {seed}, at the end"));
        assert!(work(&mut log, &mut model, 5, &mut random).await, "seed {seed}: the log cannot be used");
    }
}

#[tokio::test]
async fn log_is_not_used_after_a_failed_call() {
    let mut failures = 0;
    for seed in 0..rounds(100) {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = Fragile::new(SEGMENT);
        let mut model = Model { possible: vec![Content::default()] };
        let mut log = open(&disk).unwrap();
        let (call, errno) =
            *[(Call::Write, EIO), (Call::Write, ENOSPC), (Call::Sync, EIO), (Call::Resize, ENOSPC)]
                .choose(&mut random)
                .unwrap();
        disk.fail(call, random.random_range(0..if call == Call::Resize { 3 } else { 40 }), errno);
        if !work(&mut log, &mut model, 60, &mut random).await {
            failures += 1;
            // The disk works again, but the log must go on failing.
            for _ in 0..3 {
                let step = Step::Vote(Vote::new(1_000, 1));
                let error = act(&mut log, &step).await.unwrap_err().to_string();
                assert!(error.contains("cannot be written"), "seed {seed}: {error}");
            }
        }
        drop(log);
        // Another process opens the log by what the kernel shows; then the power is lost.
        model.begin(&Step::Vote(Vote::new(1_000, 1)));
        model.possible.pop();
        let mut log = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.check(Content::of(&mut log).await, &format!("seed {seed}, {call:?} failed"));
        drop(log);
        wait_closed(&disk);
        let disk = disk.after_crash(&mut random);
        let mut log =
            open(&disk).unwrap_or_else(|error| panic!("seed {seed}, after the power loss: {error}"));
        model.check(Content::of(&mut log).await, &format!("seed {seed}, {call:?} failed, then a power loss"));
    }
    assert!(failures > rounds(100) / 2, "only {failures} rounds had a failure");
}
