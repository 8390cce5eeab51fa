//! R9 on a real disk: files that come and go, two processes, kill -9. What breaks in other ways is in
//! `crashes.rs`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use limes_raft::log::{OpenError, SegmentLog};
use limes_raft::types::{Data, Entry, LogId, TypeConfig, Vote};
use openraft::RaftLogReader;
use openraft::entry::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

fn id(index: u64) -> LogId {
    LogId::new(LeaderId::new(3, 1).to_committed(), index)
}

/// Entry `index`, whose payload depends on it and has this size.
fn entry(index: u64, size: usize) -> Entry {
    let payload = vec![(index % 251) as u8; size];
    Entry { log_id: id(index), payload: EntryPayload::Normal(Data(Bytes::from(payload))) }
}

/// Appends entries and waits until they are acknowledged.
async fn append(log: &mut SegmentLog, entries: Vec<Entry>) {
    let (tell, told) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::<TypeConfig>::signal(tell)).await.unwrap();
    told.await.unwrap().unwrap();
}

/// What a log that opens holds: the vote's term and the entries.
async fn contents(mut log: SegmentLog) -> (u64, BTreeMap<u64, Entry>) {
    let vote = log.read_vote().await.unwrap();
    let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
    let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
    (vote.map_or(0, |vote| vote.leader_id.term), entries)
}

/// A log of acknowledged entries, closed.
async fn written(groups: u64, each: u64, size: usize) -> (TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SegmentLog::open(dir.path()).unwrap();
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    let mut next = 0;
    for _ in 0..groups {
        append(&mut log, (next..next + each).map(|index| entry(index, size)).collect()).await;
        next += each;
    }
    drop(log);
    (dir, next)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ext| ext == "seg")).collect();
    files.sort();
    files
}

/// A copy without the zeros at the ends of the files, which mean nothing.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        std::fs::write(to.path().join(file.file_name()), &bytes[..used]).unwrap();
    }
    to
}

/// Opens a damaged copy: refused, or all is there.
async fn judge(dir: &Path, entries: u64, what: &str) -> bool {
    match SegmentLog::open(dir) {
        Err(error) => panic!("{what}: {error}"),
        Ok(log) => {
            let (term, found) = contents(log).await;
            assert_eq!((term, found.len() as u64), (3, entries), "{what}: lost in silence");
            assert!(found.iter().all(|(index, found)| *found == entry(*index, 40)), "{what}: changed");
            false
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_again() {
    let (dir, entries) = written(20, 5, 40).await;
    assert!(!judge(dir.path(), entries, "nothing").await);
}

#[tokio::test]
async fn a_missing_file_is_seen_and_old_ones_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SegmentLog::open(dir.path()).unwrap();
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    for index in 0..60 {
        append(&mut log, vec![entry(index, 1 << 20)]).await;
    }
    drop(log);
    let files = segments(dir.path());
    assert!(files.len() >= 4, "{files:?}");
    for file in &files {
        let damaged = copy(dir.path());
        std::fs::remove_file(damaged.path().join(file.file_name().unwrap())).unwrap();
        let opened = SegmentLog::open(damaged.path());
        assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{file:?} is missing");
    }
    let mut log = SegmentLog::open(dir.path()).unwrap();
    log.purge(id(40)).await.unwrap();
    append(&mut log, vec![entry(60, 10)]).await;
    drop(log);
    let left = contents(SegmentLog::open(dir.path()).unwrap()).await;
    assert_eq!(left.1.keys().copied().collect::<Vec<_>>(), (41..=60).collect::<Vec<_>>());
    assert!(segments(dir.path()).len() < files.len(), "purged files go");
}

/// Bytes may change under a log that is open: what was sound at the start is looked at again when it is read.
#[tokio::test]
async fn what_changes_while_the_log_is_open_is_not_given_out() {
    let (dir, entries) = written(20, 5, 40).await;
    let mut log = SegmentLog::open(dir.path()).unwrap();
    let file = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    // In the middle of what entry 7 holds, which any byte may be.
    let at = bytes.windows(40).position(|bytes| bytes == [7; 40]).unwrap() + 20;
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(log.try_get_log_entries(0..7).await.unwrap().len(), 7);
    assert_eq!(log.limited_get_log_entries(8, entries).await.unwrap().len() as u64, entries - 8);
    for error in [
        log.try_get_log_entries(7..8).await.unwrap_err(),
        log.limited_get_log_entries(0, entries).await.unwrap_err(),
    ] {
        let (text, name) = (error.to_string(), file.display().to_string());
        let place = text.contains(&name) && text.contains("entry 7 of the raft log") && text.contains("byte");
        assert!(place, "{text}");
    }
    drop(log);
    assert!(matches!(SegmentLog::open(dir.path()), Err(OpenError::Damaged { .. })), "the next start sees it");
}

/// Reading makes no file, and says which one is not there.
#[tokio::test]
async fn a_file_that_is_gone_is_named_and_not_made() {
    let (dir, _) = written(4, 5, 40).await;
    let mut log = SegmentLog::open(dir.path()).unwrap();
    let file = segments(dir.path()).remove(0);
    std::fs::remove_file(&file).unwrap();
    let error = log.try_get_log_entries(0..1).await.unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert!(!file.exists());
}

/// What the disk refuses is named too: here a directory where a file should be.
#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let (dir, _) = written(4, 5, 40).await;
    let odd = dir.path().join("000000000002.seg");
    std::fs::create_dir(&odd).unwrap();
    let Err(error) = SegmentLog::open(dir.path()) else { panic!("it cannot be read") };
    assert!(matches!(error, OpenError::Io(_)), "{error}");
    assert!(error.to_string().contains(&odd.display().to_string()), "{error}");
}

#[tokio::test]
async fn a_directory_is_open_once_at_a_time() {
    let (dir, entries) = written(6, 3, 40).await;
    let first = SegmentLog::open(dir.path()).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let path = dir.path().to_owned();
    std::thread::spawn(move || tell.send(SegmentLog::open(&path).map_err(|error| error.to_string())));
    assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "the first one is still open");
    drop(first);
    let second = told.recv_timeout(Duration::from_secs(60)).expect("it waits for the first").unwrap();
    assert_eq!(contents(second).await.1.len() as u64, entries);
}

/// Somebody removes the folder of a node that runs: it may not acknowledge what nobody will find.
#[tokio::test]
async fn a_folder_that_is_removed_is_noticed() {
    let (dir, entries) = written(2, 3, 40).await;
    let mut log = SegmentLog::open(dir.path()).unwrap();
    append(&mut log, vec![entry(entries, 40)]).await;
    std::fs::remove_dir_all(dir.path()).unwrap();
    for _ in 0..2 {
        let (tell, told) = TypeConfig::oneshot();
        log.append([entry(entries + 1, 40)], IOFlushed::<TypeConfig>::signal(tell)).await.unwrap();
        let error = told.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("was removed while in use"), "{error}");
    }
}

/// Not a test of its own: the process that [`killed_at_any_point`] kills.
#[tokio::test]
async fn victim() {
    let Some(dir) = std::env::var_os("LIMES_VICTIM_DIR") else { return };
    let mut log = SegmentLog::open(Path::new(&dir)).unwrap_or_else(|error| panic!("{error}"));
    let state = log.get_log_state().await.unwrap();
    let mut next = state.last_log_id.map_or(0, |last| last.index + 1);
    println!("acknowledged {next}");
    loop {
        let many = 1 + next % 7;
        append(&mut log, (next..next + many).map(|index| entry(index, 40)).collect()).await;
        next += many;
        println!("acknowledged {next}");
    }
}

#[tokio::test]
async fn killed_at_any_point() {
    let kills: u32 = std::env::var("LIMES_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12);
    let seed: u64 = std::env::var("LIMES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("LIMES_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for kill in 0..kills {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "disk::victim", "--nocapture"])
            .env("LIMES_VICTIM_DIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let said = |line: &str| line.strip_prefix("acknowledged ").and_then(|number| number.parse().ok());
        // Killed after it has acknowledged something, at a moment that varies by microseconds.
        let before = acknowledged;
        while acknowledged <= before {
            let line = lines.next().unwrap_or_else(|| panic!("kill {kill}: the log did not open")).unwrap();
            acknowledged = said(&line).unwrap_or(acknowledged).max(acknowledged);
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..4_000)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = said(&line).unwrap_or(acknowledged).max(acknowledged);
        }
    }
    let (_, entries) = contents(SegmentLog::open(dir.path()).unwrap()).await;
    assert!(entries.len() as u64 >= acknowledged, "{} of {acknowledged} are left", entries.len());
    assert!(entries.iter().all(|(index, found)| *found == entry(*index, 40)));
    println!("{kills} kills, {acknowledged} entries acknowledged, {} there", entries.len());
}
