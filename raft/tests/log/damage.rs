//! R9 on damaged files: damage is detected, with one clear line, or it has changed nothing. It is never silent,
//! and never a panic.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fragile::Fragile;
use crate::model::{Content, Model, SEGMENT, Step, act, open, rounds, wait_closed, work};
use limes_raft::log::OpenError;
use limes_raft::types::Vote;

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
    // An acknowledged step at the end makes everything before certain.
    let step = Step::Vote(Vote::new(90, 1));
    model.begin(&step);
    act(&mut log, &step).await.unwrap();
    drop(log);
    wait_closed(&disk);
    (disk, model.now().clone())
}

/// Opens a damaged log. Returns whether it was refused; if not, checks that its content is unchanged.
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
            assert_eq!(&Content::of(&mut log).await, content, "{what}: the content changed silently");
            false
        }
    }
}

fn segments(disk: &Fragile) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".seg")).collect()
}

/// Bytes in front of the trailing zeros.
pub fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[tokio::test]
async fn flipped_bit_is_detected() {
    let (disk, content) = written(1).await;
    for name in disk.names() {
        let bytes = disk.bytes(&name);
        let records = used(&bytes);
        for at in 0..bytes.len() {
            // The bytes behind the records have no meaning: a few of them, and some of the old records, suffice.
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
            assert!(refused || at >= records || name == "mark", "{name}, byte {at}: accepted");
        }
    }
}

#[tokio::test]
async fn truncated_file_is_detected() {
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
                let refused = judge(&damaged, &content, &format!("{name} truncated at {len}")).await;
                assert!(refused || len >= records || name == "mark", "{name} truncated at {len}: accepted");
            }
        }
    }
}

#[tokio::test]
async fn missing_or_foreign_files_are_detected() {
    let mut detected = 0;
    for seed in 0..rounds(10) {
        let (disk, content) = written(100 + seed).await;
        let (other, _) = written(900 + seed).await;
        let names = segments(&disk);
        for name in &names {
            let damaged = disk.copy();
            damaged.delete(name);
            // A file may be missing if all its entries were truncated or purged later.
            let refused = judge(&damaged, &content, &format!("seed {seed}: {name} is missing")).await;
            assert!(refused || Some(name) != names.last(), "seed {seed}: the newest file is missing");
            detected += u32::from(refused);
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
    }
    assert!(u64::from(detected) > rounds(10), "only {detected} were detected");
}

#[tokio::test]
async fn overwritten_sectors_are_detected() {
    let mut detected = 0;
    for seed in 0..rounds(10) {
        let (disk, content) = written(100 + seed).await;
        let mut random = StdRng::seed_from_u64(seed);
        for name in &segments(&disk) {
            let bytes = disk.bytes(name);
            for sector in 0..used(&bytes).div_ceil(512) {
                let mut bytes = bytes.clone();
                let from = sector * 512;
                let to = (from + 512).min(bytes.len());
                bytes[from..to].fill(if random.random() { 0 } else { 0xff });
                let damaged = disk.copy();
                damaged.put(name, bytes);
                let what = format!("seed {seed}: sector {sector} of {name}");
                detected += u32::from(judge(&damaged, &content, &what).await);
            }
        }
    }
    assert!(u64::from(detected) > rounds(10) * 30, "only {detected} were detected");
}

#[tokio::test]
async fn copies_of_segments_do_not_change_the_content() {
    for seed in 0..rounds(10) {
        let (disk, content) = written(100 + seed).await;
        let names = segments(&disk);
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
        assert!(!judge(&damaged, &content, &format!("seed {seed}: files that are no segments")).await);
    }
}

/// A valid record of a kind that this version does not know stops the node, and nothing is cleared.
#[tokio::test]
async fn unknown_record_stops_the_node() {
    let (disk, content) = written(3).await;
    let name = segments(&disk).pop().unwrap();
    let number: u64 = name[..12].parse().unwrap();
    let bytes = disk.bytes(&name);
    for (kind, payload, expected) in [
        (77, &b"what is this"[..], "kind of record 77 is not known"),
        (3, &b"format 1"[..], "kind of record 3 is not known"),
        // An entry with a payload of an unknown kind.
        (19, &[&[0; 24][..], &[9]].concat()[..], "kind of entry 9 is not known"),
    ] {
        let (end, group) = newest_record(&bytes);
        let group = group + 1;
        let mut bytes = bytes[..end].to_vec();
        let mut record = (payload.len() as u32 + 1).to_be_bytes().to_vec();
        let rest = [&group.to_be_bytes()[..], &[kind, 1], payload].concat();
        let position = [number.to_be_bytes(), (end as u64).to_be_bytes()].concat();
        let sum = crc32c::crc32c(&[&position[..], &record, &rest].concat());
        record.extend(sum.to_be_bytes());
        record.extend(rest);
        bytes.extend(record);
        bytes.resize(bytes.len().max(SEGMENT as usize), 0);
        let newer = disk.copy();
        newer.put(&name, bytes.clone());
        let error = open(&newer).unwrap_err();
        assert!(matches!(error, OpenError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(newer.bytes(&name), bytes, "the file was changed");
    }
    assert!(!judge(&disk, &content, "the undamaged log").await);
}

/// Where the records of a file end, and the group of the last.
fn newest_record(bytes: &[u8]) -> (usize, u32) {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, mut group) = (0, 0);
    while at + 14 <= bytes.len() && number(at) > 0 {
        group = number(at + 8);
        at += 14 + number(at) as usize - 1;
    }
    (at, group)
}
