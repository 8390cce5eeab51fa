//! No acknowledged event is lost when all nodes die at once.

use limes_jepsen::crashes;

use crate::support::program::LogsOnFailure;
use crate::support::turn;

/// R9: kill -9 of all three nodes, with and without one killed before, in steady state and during recovery. The
/// long version is `limes-jepsen crashes`.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_missing_after_twenty_crashes() {
    let _turn = turn(3).await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cluster");
    let _logs = LogsOnFailure(dir.clone());
    let seed = rand::random();
    println!("limes-jepsen crashes --seed {seed} --rounds 20");
    let options = crashes::Options { binary: env!("CARGO_BIN_EXE_limes").into(), dir, rounds: 20, seed };
    let verdict = crashes::run(&options).await.unwrap().judge();
    assert_eq!(verdict.broken, Vec::<String>::new());
    assert_eq!(verdict.kills, 20);
    assert!(verdict.acknowledged >= 20, "only {} events were acknowledged", verdict.acknowledged);
}
