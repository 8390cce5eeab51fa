//! R9 on a real disk: missing files, changed files, two processes, kill -9. Other failures of a disk are in
//! `crashes.rs` and `damage.rs`.

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

/// Entry `index`, with a payload of this size that depends on the index.
fn entry(index: u64, size: usize) -> Entry {
    let payload = vec![(index % 251) as u8; size];
    Entry { log_id: id(index), payload: EntryPayload::Normal(Data(Bytes::from(payload))) }
}

/// Appends entries and waits until they are acknowledged.
async fn append(log: &mut SegmentLog, entries: Vec<Entry>) {
    let (flushed, synced) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::<TypeConfig>::signal(flushed)).await.unwrap();
    synced.await.unwrap().unwrap();
}

/// The content of a log: the term of its vote, and its entries.
async fn contents(mut log: SegmentLog) -> (u64, BTreeMap<u64, Entry>) {
    let vote = log.read_vote().await.unwrap();
    let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
    let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
    (vote.map_or(0, |vote| vote.leader_id.term), entries)
}

/// A closed log of acknowledged entries.
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

/// A copy without the trailing zeros of the files, which have no meaning.
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

#[tokio::test]
async fn acknowledged_entries_are_there_after_reopening() {
    let (dir, entries) = written(20, 5, 40).await;
    let (term, found) = contents(SegmentLog::open(dir.path()).unwrap()).await;
    assert_eq!((term, found.len() as u64), (3, entries));
    assert!(found.iter().all(|(index, found)| *found == entry(*index, 40)));
}

/// A closed log of 60 entries of 1 MiB, in several files.
async fn written_in_several_files() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SegmentLog::open(dir.path()).unwrap();
    log.save_vote(&Vote::new(3, 1)).await.unwrap();
    for index in 0..60 {
        append(&mut log, vec![entry(index, 1 << 20)]).await;
    }
    drop(log);
    assert!(segments(dir.path()).len() >= 4, "{:?}", segments(dir.path()));
    dir
}

#[tokio::test]
async fn missing_file_is_damage() {
    let dir = written_in_several_files().await;
    for file in segments(dir.path()) {
        let damaged = copy(dir.path());
        std::fs::remove_file(damaged.path().join(file.file_name().unwrap())).unwrap();
        let opened = SegmentLog::open(damaged.path());
        assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{file:?} is missing");
    }
}

#[tokio::test]
async fn purged_files_are_removed() {
    let dir = written_in_several_files().await;
    let before = segments(dir.path()).len();
    let mut log = SegmentLog::open(dir.path()).unwrap();
    log.purge(id(40)).await.unwrap();
    append(&mut log, vec![entry(60, 10)]).await;
    drop(log);
    let left = contents(SegmentLog::open(dir.path()).unwrap()).await;
    assert_eq!(left.1.keys().copied().collect::<Vec<_>>(), (41..=60).collect::<Vec<_>>());
    assert!(segments(dir.path()).len() < before);
}

/// Bytes may change under an open log: an entry is checked again when it is read from disk.
#[tokio::test]
async fn entry_that_changed_under_an_open_log_is_not_returned() {
    let (dir, entries) = written(20, 5, 40).await;
    let mut log = SegmentLog::open(dir.path()).unwrap();
    let file = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    // In the middle of the payload of entry 7, where any byte is valid.
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
        let location =
            text.contains(&name) && text.contains("entry 7 of the raft log") && text.contains("byte");
        assert!(location, "{text}");
    }
    drop(log);
    assert!(
        matches!(SegmentLog::open(dir.path()), Err(OpenError::Damaged { .. })),
        "the next start detects it"
    );
}

/// Reading does not make a file, and names the missing one.
#[tokio::test]
async fn removed_file_is_named_and_not_made() {
    let (dir, _) = written(4, 5, 40).await;
    let mut log = SegmentLog::open(dir.path()).unwrap();
    let file = segments(dir.path()).remove(0);
    std::fs::remove_file(&file).unwrap();
    let error = log.try_get_log_entries(0..1).await.unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert!(!file.exists());
}

/// Here a directory has the name of a segment.
#[tokio::test]
async fn unreadable_file_is_named() {
    let (dir, _) = written(4, 5, 40).await;
    let odd = dir.path().join("000000000002.seg");
    std::fs::create_dir(&odd).unwrap();
    let Err(error) = SegmentLog::open(dir.path()) else { panic!("the log was opened") };
    assert!(matches!(error, OpenError::Io(_)), "{error}");
    assert!(error.to_string().contains(&odd.display().to_string()), "{error}");
}

#[tokio::test]
async fn second_log_of_a_directory_waits_for_the_first() {
    let (dir, entries) = written(6, 3, 40).await;
    let first = SegmentLog::open(dir.path()).unwrap();
    let (opened, second) = std::sync::mpsc::channel();
    let path = dir.path().to_owned();
    std::thread::spawn(move || opened.send(SegmentLog::open(&path).map_err(|error| error.to_string())));
    assert!(second.recv_timeout(Duration::from_millis(300)).is_err(), "the first log is still open");
    drop(first);
    let second = second.recv_timeout(Duration::from_secs(60)).expect("the second log opens").unwrap();
    assert_eq!(contents(second).await.1.len() as u64, entries);
}

/// A log whose directory was removed must not acknowledge entries that are lost with the process.
#[tokio::test]
async fn removal_of_the_directory_is_noticed() {
    let (dir, entries) = written(2, 3, 40).await;
    let mut log = SegmentLog::open(dir.path()).unwrap();
    append(&mut log, vec![entry(entries, 40)]).await;
    std::fs::remove_dir_all(dir.path()).unwrap();
    for _ in 0..2 {
        let (flushed, synced) = TypeConfig::oneshot();
        log.append([entry(entries + 1, 40)], IOFlushed::<TypeConfig>::signal(flushed)).await.unwrap();
        let error = synced.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("was removed while in use"), "{error}");
    }
}

/// Not a test of its own: the process that [`kill_at_any_point_loses_no_acknowledged_entry`] kills.
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
async fn kill_at_any_point_loses_no_acknowledged_entry() {
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
        let acknowledged_by =
            |line: &str| line.strip_prefix("acknowledged ").and_then(|number| number.parse().ok());
        // Kill it after a new acknowledgement, at a moment that varies by microseconds.
        let before = acknowledged;
        while acknowledged <= before {
            let line = lines.next().unwrap_or_else(|| panic!("kill {kill}: the log did not open")).unwrap();
            acknowledged = acknowledged_by(&line).unwrap_or(acknowledged).max(acknowledged);
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..4_000)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = acknowledged_by(&line).unwrap_or(acknowledged).max(acknowledged);
        }
    }
    let (_, entries) = contents(SegmentLog::open(dir.path()).unwrap()).await;
    assert!(entries.len() as u64 >= acknowledged, "{} of {acknowledged} entries are left", entries.len());
    assert!(entries.iter().all(|(index, found)| *found == entry(*index, 40)));
    println!("{kills} kills, {acknowledged} entries acknowledged, {} there", entries.len());
}
