//! R9 on a disk that breaks: power losses at every call, full and failing disks, damage of all kinds.
//! Each is recovered without loss or refused with one clear line; never silent, never a panic.

use std::sync::Arc;

use crate::fragile::{Call, Fragile};
use bytes::Bytes;
use limes_raft::log::{OpenError, SegmentLog};
use limes_raft::types::{Data, Entry, LogId, TypeConfig, Vote};
use openraft::RaftLogReader;
use openraft::entry::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Small, so that there are many files.
const SEGMENT: u64 = 4_096;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What a log holds, or should.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
enum Step {
    Vote(Vote),
    Append(Vec<Entry>),
    Truncate(Option<LogId>),
    Purge(LogId),
    Committed(LogId),
}

impl Content {
    async fn of(log: &mut SegmentLog) -> Self {
        let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
        let purged = log.get_log_state().await.unwrap().last_purged_log_id;
        Content { vote: log.read_vote().await.unwrap(), purged, entries }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.log_id).or(self.purged)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Append(entries) => self.entries.extend(entries.iter().cloned()),
            Step::Truncate(after) => {
                self.entries.retain(|entry| Some(entry.log_id.index) <= after.map(|id| id.index))
            }
            Step::Purge(to) => {
                self.purged = self.purged.max(Some(*to));
                self.entries.retain(|entry| entry.log_id.index > to.index);
            }
            Step::Committed(_) => {}
        }
    }

    /// A step that a node might take next.
    fn next(&self, random: &mut StdRng) -> Step {
        let term = self.vote.map_or(0, |vote| vote.leader_id.term);
        let last = self.last();
        let some = |random: &mut StdRng| self.entries.choose(random).map(|entry| entry.log_id);
        match random.random_range(0..20) {
            0 => Step::Vote(Vote::new(term + 1, 1)),
            1 if last > self.purged => Step::Truncate(some(random).or(self.purged).max(self.purged)),
            2 | 3 if let Some(to) = some(random) => Step::Purge(to),
            4 => match some(random) {
                Some(to) => Step::Committed(to),
                None => Step::Vote(Vote::new(term + 1, 2)),
            },
            _ => {
                let from = last.map_or(0, |last| last.index + 1);
                let many = random.random_range(1..6);
                Step::Append((from..from + many).map(|index| entry(term, index, random)).collect())
            }
        }
    }
}

fn entry(term: u64, index: u64, random: &mut StdRng) -> Entry {
    let size = if random.random_range(0..40) == 0 { 6_000 } else { random.random_range(0..300) };
    let log_id = LogId::new(LeaderId::new(term, 1).to_committed(), index);
    let payload = match random.random_range(0..9) {
        0 => EntryPayload::Blank,
        // Zeros are what an empty disk holds: they must not be mistaken for it.
        1 => EntryPayload::Normal(Data(vec![0; size].into())),
        _ => EntryPayload::Normal(Data((0..size).map(|_| random.random()).collect::<Vec<u8>>().into())),
    };
    Entry { log_id, payload }
}

/// Does a step; whether it is certain to be durable when that succeeds.
async fn act(log: &mut SegmentLog, step: &Step) -> std::io::Result<bool> {
    match step.clone() {
        Step::Vote(vote) => log.save_vote(&vote).await.map(|()| true),
        Step::Append(entries) => {
            let (tell, told) = TypeConfig::oneshot();
            log.append(entries, IOFlushed::<TypeConfig>::signal(tell)).await?;
            told.await.map_err(std::io::Error::other)?.map(|()| true)
        }
        Step::Truncate(after) => log.truncate_after(after).await.map(|()| true),
        Step::Purge(to) => log.purge(to).await.map(|()| false),
        Step::Committed(to) => log.save_committed(Some(to)).await.map(|()| false),
    }
}

/// All contents that a log may have: the last that was certain, and what came after.
struct Model {
    possible: Vec<Content>,
}

impl Model {
    fn now(&self) -> &Content {
        self.possible.last().unwrap()
    }

    /// A step begins: from now on its effect may be there, or a part of it.
    fn begins(&mut self, step: &Step) {
        let before = self.now().clone();
        if let Step::Append(entries) = step {
            for many in 1..entries.len() {
                let mut partly = before.clone();
                partly.take(&Step::Append(entries[..many].to_vec()));
                self.possible.push(partly);
            }
        }
        let mut after = before;
        after.take(step);
        self.possible.push(after);
    }

    fn certain(&mut self) {
        self.possible.drain(..self.possible.len() - 1);
    }

    fn check(&mut self, found: Content, what: &str) {
        assert!(self.possible.contains(&found), "{what}: found {found:?}, not one of {:?}", self.possible);
        self.possible = vec![found];
    }
}

fn open(disk: &Fragile) -> Result<SegmentLog, OpenError> {
    SegmentLog::open_in(Arc::new(disk.clone()))
}

/// Works until something fails, or for so many steps.
async fn work(log: &mut SegmentLog, model: &mut Model, steps: usize, random: &mut StdRng) -> bool {
    for _ in 0..steps {
        let step = model.now().next(random);
        model.begins(&step);
        match act(log, &step).await {
            Ok(true) => model.certain(),
            Ok(false) => {}
            Err(_) => return false,
        }
    }
    true
}

fn rounds(many: u64) -> u64 {
    std::env::var("LIMES_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(many)
}

#[tokio::test]
async fn power_losses_cost_nothing_that_was_acknowledged() {
    for seed in 0..rounds(120) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut disk = Fragile::new(SEGMENT);
        let mut model = Model { possible: vec![Content::default()] };
        // Three lives one after the other, each ended by a power loss at some call, also while opening.
        for life in 0..3 {
            disk.crash_at(random.random_range(0..if life == 0 { 160 } else { 60 }));
            if let Ok(mut log) = open(&disk) {
                model.check(Content::of(&mut log).await, &format!("seed {seed}, life {life}"));
                work(&mut log, &mut model, 60, &mut random).await;
                drop(log);
            }
            drop(fragile_closed(&disk));
            disk = disk.after_crash(&mut random);
        }
        let mut log = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.check(Content::of(&mut log).await, &format!("seed {seed}, at the end"));
        assert!(work(&mut log, &mut model, 5, &mut random).await, "seed {seed}: it goes on");
    }
}

/// Waits until the log that used a disk is closed.
fn fragile_closed(disk: &Fragile) -> Box<dyn Send> {
    use limes_raft::log::files::Files;
    disk.lock().unwrap()
}

#[tokio::test]
async fn a_disk_that_fails_once_is_not_used_again() {
    let mut failures = 0;
    for seed in 0..rounds(100) {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = Fragile::new(SEGMENT);
        let mut model = Model { possible: vec![Content::default()] };
        let mut log = open(&disk).unwrap();
        let (call, errno) =
            *[(Call::Write, EIO), (Call::Write, ENOSPC), (Call::Sync, EIO), (Call::Shape, ENOSPC)]
                .choose(&mut random)
                .unwrap();
        disk.fail(call, random.random_range(0..if call == Call::Shape { 3 } else { 40 }), errno);
        if !work(&mut log, &mut model, 60, &mut random).await {
            failures += 1;
            // The disk works again; this process must not believe it.
            for _ in 0..3 {
                let step = Step::Vote(Vote::new(1_000, 1));
                let error = act(&mut log, &step).await.unwrap_err().to_string();
                assert!(error.contains("cannot be written"), "seed {seed}: {error}");
            }
        }
        drop(log);
        // Another process reads what the kernel shows, goes on from that, and then the power goes.
        model.begins(&Step::Vote(Vote::new(1_000, 1)));
        model.possible.pop();
        let mut log = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.check(Content::of(&mut log).await, &format!("seed {seed}, {call:?} failed"));
        drop(log);
        drop(fragile_closed(&disk));
        let disk = disk.after_crash(&mut random);
        let mut log =
            open(&disk).unwrap_or_else(|error| panic!("seed {seed}, after the power loss: {error}"));
        model.check(Content::of(&mut log).await, &format!("seed {seed}, {call:?} failed, then a power loss"));
    }
    assert!(failures > rounds(100) / 2, "only {failures} failed");
}

/// A closed log of several files, and what it holds.
async fn written(seed: u64) -> (Fragile, Content) {
    let mut random = StdRng::seed_from_u64(seed);
    let disk = Fragile::new(SEGMENT);
    let mut model = Model { possible: vec![Content::default()] };
    let mut log = open(&disk).unwrap();
    loop {
        assert!(work(&mut log, &mut model, 10, &mut random).await);
        if disk.names().len() > 4 && model.now().entries.len() > 20 {
            break;
        }
    }
    // Something acknowledged comes last, so that all before is certain.
    let step = Step::Vote(Vote::new(90, 1));
    model.begins(&step);
    act(&mut log, &step).await.unwrap();
    drop(log);
    drop(fragile_closed(&disk));
    (disk, model.now().clone())
}

/// Opens a damaged disk: whether it was refused, after a look that it lost nothing in silence.
async fn judge(disk: &Fragile, content: &Content, what: &str) -> bool {
    match open(disk) {
        Err(OpenError::Io(error)) => panic!("{what}: {error}"),
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains("fragile/") && text.contains("byte") && !text.contains('\n'),
                "{what}: {text}"
            );
            true
        }
        Ok(mut log) => {
            assert_eq!(&Content::of(&mut log).await, content, "{what}: changed in silence");
            false
        }
    }
}

fn segments(disk: &Fragile) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_seen() {
    let (disk, content) = written(1).await;
    for name in disk.names() {
        let bytes = disk.bytes(&name);
        let records = used(&bytes);
        for at in 0..bytes.len() {
            // What lies behind the records means nothing: a few of those will do, and some of the old.
            let newest = name == *segments(&disk).last().unwrap() || name == "mark";
            let skipped =
                if at > records + 40 { !at.is_multiple_of(97) } else { !newest && !at.is_multiple_of(7) };
            if skipped {
                continue;
            }
            let damaged = disk.copy();
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            damaged.put(&name, bytes);
            let refused = judge(&damaged, &content, &format!("{name}, byte {at}")).await;
            assert!(refused || at >= records || name == "mark", "{name}, byte {at}: taken");
        }
    }
}

#[tokio::test]
async fn a_cut_file_is_seen() {
    let (disk, content) = written(2).await;
    for name in disk.names() {
        let bytes = disk.bytes(&name);
        let records = used(&bytes);
        let newest = name == *segments(&disk).last().unwrap() || name == "mark";
        // Every byte of the newest records, and some of the older ones.
        let tried = |len: usize| {
            if len <= records + 8 { newest || len.is_multiple_of(29) } else { len.is_multiple_of(97) }
        };
        for len in (0..bytes.len()).filter(|len| tried(*len)) {
            for zeros in [false, true] {
                let damaged = disk.copy();
                let mut cut = bytes[..len].to_vec();
                cut.resize(if zeros { bytes.len() } else { len }, 0);
                damaged.put(&name, cut);
                let refused = judge(&damaged, &content, &format!("{name} cut at {len}")).await;
                assert!(refused || len >= records || name == "mark", "{name} cut at {len}: taken");
            }
        }
    }
}

#[tokio::test]
async fn pages_and_files_that_are_not_what_they_were_are_seen() {
    let mut missed = 0;
    for seed in 0..rounds(10) {
        let (disk, content) = written(100 + seed).await;
        let (other, _) = written(900 + seed).await;
        let names = segments(&disk);
        let mut random = StdRng::seed_from_u64(seed);
        for name in &names {
            let bytes = disk.bytes(name);
            let damaged = disk.copy();
            damaged.delete(name);
            // One whose entries were all cut off or purged later is not missed.
            let refused = judge(&damaged, &content, &format!("seed {seed}: {name} is missing")).await;
            assert!(refused || Some(name) != names.last(), "seed {seed}: the newest file is missing");
            missed += u32::from(refused);
            for page in 0..used(&bytes).div_ceil(512) {
                let mut bytes = bytes.clone();
                let from = page * 512;
                let to = (from + 512).min(bytes.len());
                bytes[from..to].fill(if random.random() { 0 } else { 0xff });
                let damaged = disk.copy();
                damaged.put(name, bytes);
                let what = format!("seed {seed}: sector {page} of {name}");
                missed += u32::from(judge(&damaged, &content, &what).await);
            }
            for with in &names {
                let damaged = disk.copy();
                damaged.put(name, disk.bytes(with));
                damaged.put(with, disk.bytes(name));
                let refused = judge(&damaged, &content, &format!("seed {seed}: {name} and {with}")).await;
                assert_eq!(refused, name != with, "seed {seed}: {name} and {with} swapped");
            }
            if other.names().contains(name) {
                let damaged = disk.copy();
                damaged.put(name, other.bytes(name));
                assert!(judge(&damaged, &content, &format!("seed {seed}: {name} of another log")).await);
            }
        }
        let last: u64 = names.last().unwrap()[..12].parse().unwrap();
        for (copy, mark) in [(last + 1, true), (last + 2, true), (last + 1, false)] {
            let damaged = disk.copy();
            damaged.put(&format!("{copy:012}.seg"), disk.bytes(names.last().unwrap()));
            if !mark {
                damaged.delete("mark");
            }
            judge(&damaged, &content, &format!("seed {seed}: the last file again, as {copy}")).await;
        }
        let damaged = disk.copy();
        damaged.put("copy of a file.seg", disk.bytes(&names[0]));
        damaged.put("1.seg", disk.bytes(&names[0]));
        assert!(!judge(&damaged, &content, &format!("seed {seed}: files that mean nothing")).await);
    }
    assert!(u64::from(missed) > rounds(10) * 30, "only {missed} were missed");
}

/// A record that is whole, of a kind that this version does not know: it stops, and clears nothing.
#[tokio::test]
async fn a_record_of_other_software_stops_the_node() {
    let (disk, content) = written(3).await;
    let name = segments(&disk).pop().unwrap();
    let number: u64 = name[..12].parse().unwrap();
    let bytes = disk.bytes(&name);
    for (kind, payload, says) in [
        (77, &b"what is this"[..], "kind of record 77 is not known"),
        (3, &b"format 1"[..], "kind of record 3 is not known"),
        // An entry whose payload is of an unknown kind.
        (19, &[&[0; 24][..], &[9]].concat()[..], "kind of entry 9 is not known"),
    ] {
        let (end, group) = newest_record(&bytes);
        let group = group + 1;
        let mut bytes = bytes[..end].to_vec();
        let mut record = (payload.len() as u32 + 1).to_be_bytes().to_vec();
        let rest = [&group.to_be_bytes()[..], &[kind, 1], payload].concat();
        let place = [number.to_be_bytes(), (end as u64).to_be_bytes()].concat();
        let sum = crc32c::crc32c(&[&place[..], &record, &rest].concat());
        record.extend(sum.to_be_bytes());
        record.extend(rest);
        bytes.extend(record);
        bytes.resize(bytes.len().max(SEGMENT as usize), 0);
        let newer = disk.copy();
        newer.put(&name, bytes.clone());
        let error = open(&newer).unwrap_err();
        assert!(matches!(error, OpenError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(newer.bytes(&name), bytes, "nothing was touched");
    }
    assert!(!judge(&disk, &content, "as it was").await);
}

/// Where a file's records end, and the group of the last.
fn newest_record(bytes: &[u8]) -> (usize, u32) {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut group) = (0, 0);
    while at + 14 <= bytes.len() && number(at) > 0 {
        group = number(at + 8);
        at += 14 + number(at) as usize - 1;
    }
    (at, group)
}

/// What was written in format 2 reads for ever.
#[tokio::test]
async fn a_log_of_format_2_still_loads() {
    let golden = include_str!("../../golden/log-2.hex");
    let disk = Fragile::new(SEGMENT);
    for line in golden.lines() {
        let (name, hex) = line.split_once(' ').unwrap();
        let mut bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        if name.ends_with(".seg") {
            bytes.resize(bytes.len().max(SEGMENT as usize), 0);
        }
        disk.put(name, bytes);
    }
    let mut log = open(&disk).unwrap();
    let content = Content::of(&mut log).await;
    assert_eq!(content.vote, Some(Vote::new_committed(7, 1)));
    assert_eq!(content.purged.map(|id| id.index), Some(1));
    let indexes: Vec<u64> = content.entries.iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(indexes, [2, 3]);
    assert!(matches!(&content.entries[0].payload, EntryPayload::Normal(Data(data)) if data == "batch"));
    assert!(
        matches!(&content.entries[1].payload, EntryPayload::Membership(members) if members.voter_ids().count() == 3)
    );
}

/// How the golden log was made; prints it.
#[tokio::test]
#[ignore = "writes golden/log-2.hex anew, which must not change"]
async fn write_the_golden_log() {
    use openraft::Membership;
    let disk = Fragile::new(SEGMENT);
    let mut log = open(&disk).unwrap();
    let id = |index| LogId::new(LeaderId::new(7, 1).to_committed(), index);
    let members = Membership::new_with_defaults(vec![[1, 2, 3].into()], []);
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Data(Bytes::from_static(b"old"))),
        EntryPayload::Normal(Data(Bytes::from_static(b"batch"))),
        EntryPayload::Membership(members),
        EntryPayload::Blank,
    ];
    let entries = (0..).zip(payloads).map(|(index, payload)| Entry { log_id: id(index), payload }).collect();
    for step in [
        Step::Vote(Vote::new_committed(7, 1)),
        Step::Append(entries),
        Step::Truncate(Some(id(3))),
        Step::Committed(id(2)),
        Step::Purge(id(1)),
        Step::Vote(Vote::new_committed(7, 1)),
    ] {
        act(&mut log, &step).await.unwrap();
    }
    drop(log);
    drop(fragile_closed(&disk));
    for name in disk.names() {
        let bytes = disk.bytes(&name);
        let hex: String = bytes[..used(&bytes)].iter().map(|byte| format!("{byte:02x}")).collect();
        println!("golden {name} {hex}");
    }
}
