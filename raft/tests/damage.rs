//! Disks that cannot be trusted: the member comes back under a new number, or says why it cannot.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use limes_raft::StartError;
use limes_routing::EdgeId;
use support::{Cluster, LIMIT, eventually, files, online};

/// Changes a byte in the middle of the log's first records.
fn damage_log(dir: &Path) {
    let segment =
        files(&dir.join("log")).into_iter().find(|file| file.extension().is_some_and(|e| e == "seg"));
    flip(&segment.unwrap(), 200);
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// Kills a follower, does something to its disk, and sees it come back as a new member.
fn comes_back_after(harm: impl FnOnce(&Path)) {
    let mut cluster = Cluster::start(3);
    for edge in 0..20 {
        cluster.at(edge as usize % 3).submit(online(edge)).unwrap();
    }
    let harmed = cluster.follower();
    let old = cluster.at(harmed).replica.node();
    cluster.kill(harmed);
    let dir = cluster.places[harmed].dir.clone();
    harm(&dir);
    cluster.restart(harmed);
    let new = cluster.at(harmed).replica.node();
    assert!(new.0 > 3, "it must not vote again as number {old}, but is {new}");
    assert!(dir.join("damaged-1").is_dir(), "what was there is kept aside");
    eventually("three vote again, without the old number", || {
        let tables = cluster.agree();
        tables.members().count() == 3 && tables.members().all(|member| member.voter && member.node != old)
    });
    assert!(cluster.agree().members().any(|member| member.node == new));
}

#[test]
fn a_damaged_log_is_set_aside() {
    comes_back_after(damage_log);
}

#[test]
fn a_log_without_its_identity_is_set_aside() {
    comes_back_after(|dir| std::fs::remove_file(dir.join("identity")).unwrap());
}

#[test]
fn an_identity_without_its_log_is_set_aside() {
    comes_back_after(|dir| std::fs::remove_dir_all(dir.join("log")).unwrap());
}

#[test]
fn a_damaged_identity_is_set_aside() {
    comes_back_after(|dir| flip(&dir.join("identity"), 30));
}

#[test]
fn a_damaged_snapshot_is_set_aside() {
    comes_back_after(|dir| std::fs::write(dir.join("snapshot"), b"not a snapshot").unwrap());
}

#[test]
fn the_only_node_says_what_is_damaged_and_touches_nothing() {
    let mut cluster = Cluster::start(1);
    cluster.at(0).submit(online(1)).unwrap();
    cluster.kill(0);
    let dir = cluster.places[0].dir.clone();
    damage_log(&dir);
    let before = files(&dir.join("log"));
    let Err(error) = cluster.begin(0).finish(LIMIT) else { panic!("it must not start") };
    assert!(matches!(error, StartError::Damaged(_)), "{error}");
    assert!(error.to_string().contains(".seg"), "it says where: {error}");
    assert_eq!(files(&dir.join("log")), before);
    assert!(!dir.join("damaged-1").exists());
}

#[test]
fn a_damaged_history_begins_anew() {
    let mut cluster = Cluster::start(1);
    cluster.at(0).submit(online(1)).unwrap();
    cluster.stop(0);
    let history = cluster.places[0].dir.join("history");
    eventually("the history is closed", || history.join("db").metadata().is_ok_and(|db| db.len() > 100));
    for file in files(&history).into_iter().filter(|file| file.is_file()) {
        let len = std::fs::metadata(&file).unwrap().len();
        (0..len).step_by(40).for_each(|at| flip(&file, at));
    }
    cluster.restart(0);
    cluster.at(0).submit(online(2)).unwrap();
    let replica = cluster.at(0).replica.clone();
    let filter = limes_raft::Filter { edge: Some(EdgeId(2)), ..Default::default() };
    let found = cluster.at(0).run(async move { replica.history().search(filter).await }).unwrap();
    assert_eq!(found.len(), 1);
}
