//! Data that cannot be trusted: the member comes back under a new number, or reports why it cannot.

use std::path::Path;

use crate::support::{
    BRISK, Cluster, LIMIT, concurrently, copy, damage_log, eventually, files, flip, online, tests,
};
use limes_raft::StartError;
use limes_raft::log::SegmentLog;
use limes_raft::types::{Data, Entry, LogId, TypeConfig};
use limes_routing::{Batch, EdgeId};
use openraft::entry::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

/// Tests that mostly wait.
#[test]
fn damaged_and_stale_directories() {
    concurrently(tests! {
        stale_copy_of_a_directory_does_not_vote
        nodes_with_damaged_data_found_no_cluster
        entry_that_changed_on_disk_is_not_replicated
    });
}

/// Starts a member whose data cannot be trusted, and checks that a new member takes its place.
fn rejoins(cluster: &mut Cluster, harmed: usize) {
    cluster.restart(harmed);
    let new = cluster.at(harmed).replica.node();
    assert!(new.0 > 3, "the member uses its old number {new}");
    let name = cluster.places[harmed].name.clone();
    eventually("three vote again, without the old number", || {
        let tables = cluster.agree();
        let rows: Vec<_> =
            tables.members().filter(|member| member.name == name).map(|row| row.node).collect();
        tables.members().count() == 3 && tables.members().all(|member| member.voter) && rows == [new]
    });
}

fn put_back(backup: &Path, dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
    copy(backup, dir);
}

/// Why a running member cannot go on.
fn failure(cluster: &Cluster, at: usize) -> String {
    let replica = cluster.at(at).replica.clone();
    cluster.at(at).run(async move { replica.failed().await.to_string() })
}

fn stale_copy_of_a_directory_does_not_vote() {
    let mut cluster = Cluster::start_with(3, BRISK);
    cluster.at(0).submit(online(1)).unwrap();
    let victim = cluster.follower();
    let dir = cluster.places[victim].dir.clone();
    let (first, second) = (dir.with_extension("backup-1"), dir.with_extension("backup-2"));
    cluster.kill(victim);
    copy(&dir, &first);
    cluster.restart(victim);
    assert!(cluster.at(victim).replica.node().0 <= 3, "the unchanged directory was not accepted");
    cluster.at(victim).submit(online(2)).unwrap();
    cluster.agree();
    // A copy from before the last boot.
    cluster.kill(victim);
    put_back(&first, &dir);
    rejoins(&mut cluster, victim);
    // A copy of this boot, from before entries that the member has acknowledged.
    copy(&dir, &second);
    for edge in 10..40 {
        cluster.at(victim).submit(online(edge)).unwrap();
    }
    cluster.agree();
    let number = cluster.at(victim).replica.node();
    cluster.kill(victim);
    put_back(&second, &dir);
    rejoins(&mut cluster, victim);
    assert_ne!(cluster.at(victim).replica.node(), number);
    // A copy of a number that was replaced long ago.
    cluster.kill(victim);
    put_back(&first, &dir);
    rejoins(&mut cluster, victim);
    // All members are down, and the old copy starts first: no member can tell it. The others detect it later,
    // and it does not answer them.
    let third = dir.with_extension("backup-3");
    cluster.kill(victim);
    copy(&dir, &third);
    cluster.restart(victim);
    cluster.agree();
    (0..3).for_each(|at| cluster.kill(at));
    put_back(&third, &dir);
    cluster.start_places(&[victim]);
    let others: Vec<usize> = (0..3).filter(|at| *at != victim).collect();
    cluster.start_places(&others);
    let why = failure(&cluster, victim);
    assert!(why.contains("old copy"), "{why}");
    others.iter().for_each(|at| cluster.at(*at).wait_up());
    cluster.kill(victim);
    rejoins(&mut cluster, victim);
}

fn nodes_with_damaged_data_found_no_cluster() {
    let mut cluster = Cluster::start_with(3, BRISK);
    cluster.at(0).submit(online(1)).unwrap();
    (0..3).for_each(|at| cluster.kill(at));
    for place in &cluster.places {
        damage_log(&place.dir);
    }
    let starting: Vec<_> = (0..3).map(|at| cluster.begin(at)).collect();
    for (at, starting) in starting.iter().enumerate() {
        let time = std::time::Duration::from_millis(if at == 0 { 2_500 } else { 1 });
        assert!(starting.is_waiting(time), "node {at} has founded another cluster");
        assert!(cluster.places[at].dir.join("rejoin").exists());
        assert!(cluster.places[at].dir.with_extension("damaged-1").is_dir());
    }
    starting.into_iter().for_each(crate::support::Starting::kill);
    // An operator who wants to start over removes the directories.
    for place in &cluster.places {
        eventually("the directory can be removed", || std::fs::remove_dir_all(&place.dir).is_ok());
    }
    cluster.start_places(&[0, 1, 2]);
    cluster.places.iter().for_each(|place| place.running().wait_up());
    assert!(cluster.agree().edge(EdgeId(1)).is_none());
}

/// A byte of an old entry changes while the leader runs. The leader stops when it has to send that entry; the
/// new member, which would have stored it with a fresh checksum, gets the entry from another leader.
fn entry_that_changed_on_disk_is_not_replicated() {
    let mut cluster = Cluster::start_with(3, BRISK);
    for edge in 0..20 {
        cluster.at(edge as usize % 3).submit(online(edge)).unwrap();
    }
    cluster.agree();
    // After a start no old entry is in memory.
    (0..3).for_each(|at| cluster.kill(at));
    cluster.start_places(&[0, 1, 2]);
    cluster.places.iter().for_each(|place| place.running().wait_up());
    let leader = cluster.leader();
    let dir = cluster.places[leader].dir.clone();
    let segment =
        files(&dir.join("log")).into_iter().find(|file| file.extension().is_some_and(|e| e == "seg"));
    let segment = segment.unwrap();
    let bytes = std::fs::read(&segment).unwrap();
    let meta = bytes.windows(4).position(|bytes| bytes == b"meta").unwrap();
    flip(&segment, meta as u64 + 1);
    let newcomer = cluster.add_place();
    let starting = cluster.begin(newcomer);
    let why = failure(&cluster, leader);
    assert!(why.contains(&segment.display().to_string()) && why.contains("has changed on disk"), "{why}");
    cluster.kill(leader);
    cluster.places[newcomer].running = Some(starting.finish(LIMIT).unwrap());
    cluster.places[newcomer].running().wait_up();
    // The next start of the old leader detects the damage too.
    cluster.restart(leader);
    assert!(cluster.at(leader).replica.node().0 > 3, "the member uses its old number");
    assert!(dir.with_extension("damaged-1").is_dir());
    // The changed entry was not replicated.
    cluster.agree();
}

/// One kind of damage after the other, in one cluster: each member is replaced before the next is damaged.
#[test]
fn damaged_data_is_quarantined() {
    let mut cluster = Cluster::start_with(3, BRISK);
    for edge in 0..20 {
        cluster.at(edge as usize % 3).submit(online(edge)).unwrap();
    }
    let harms: [fn(&Path); 5] = [
        damage_log,
        |dir| std::fs::remove_file(dir.join("identity")).unwrap(),
        |dir| std::fs::remove_dir_all(dir.join("log")).unwrap(),
        |dir| flip(&dir.join("identity"), 30),
        |dir| std::fs::write(dir.join("snapshot"), b"not a snapshot").unwrap(),
    ];
    for harm in harms {
        let harmed = cluster.follower();
        cluster.kill(harmed);
        let dir = cluster.places[harmed].dir.clone();
        remove_quarantine(&dir);
        harm(&dir);
        rejoins(&mut cluster, harmed);
        let kept = dir.with_extension("damaged-1");
        assert!(kept.is_dir(), "the data is not in {}", kept.display());
        assert!(!dir.join("rejoin").exists(), "the note is still there");
    }
    cluster.agree();
}

fn remove_quarantine(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir.with_extension("damaged-1"));
}

#[test]
fn only_node_reports_the_damage_and_changes_nothing() {
    let mut cluster = Cluster::start(1);
    cluster.at(0).submit(online(1)).unwrap();
    cluster.kill(0);
    let dir = cluster.places[0].dir.clone();
    damage_log(&dir);
    let before = files(&dir.join("log"));
    let Err(error) = cluster.begin(0).finish(LIMIT) else { panic!("the member started") };
    assert!(matches!(error, StartError::Damaged(..)), "{error}");
    assert!(error.to_string().contains(".seg"), "the file is not named: {error}");
    assert_eq!(files(&dir.join("log")), before);
    assert!(!dir.with_extension("damaged-1").exists());
}

#[test]
fn damaged_history_is_replaced_by_an_empty_one() {
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

/// An event that this version does not know must not be skipped, because other members may apply it.
#[test]
fn unknown_event_stops_the_member() {
    let mut cluster = Cluster::start(1);
    cluster.at(0).submit(online(1)).unwrap();
    cluster.kill(0);
    let dir = cluster.places[0].dir.join("log");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let index = runtime.block_on(async {
        let mut log = SegmentLog::open(&dir).unwrap();
        let last = log.get_log_state().await.unwrap().last_log_id.unwrap();
        let mut batch = Batch { origin: None, time_ms: 7, events: vec![online(2)] }.encode().to_vec();
        let known = Batch { origin: None, time_ms: 7, events: vec![] }.encode().len();
        batch[known] = 250;
        let log_id = LogId::new(last.leader_id, last.index + 1);
        let (flushed, synced) = TypeConfig::oneshot();
        let entry = Entry { log_id, payload: EntryPayload::Normal(Data(batch.into())) };
        log.append([entry], IOFlushed::<TypeConfig>::signal(flushed)).await.unwrap();
        synced.await.unwrap().unwrap();
        log_id.index
    });
    cluster.start_places(&[0]);
    let why = failure(&cluster, 0);
    assert!(why.contains(&format!("entry {index} cannot be applied")) && why.contains("250"), "{why}");
    assert!(!cluster.places[0].dir.with_extension("damaged-1").exists());
}
