//! The golden log of format 2.

use bytes::Bytes;
use openraft::entry::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::vote::RaftLeaderId;

use crate::damage::used;
use crate::fragile::Fragile;
use crate::model::{Content, SEGMENT, Step, act, open, wait_closed};
use limes_raft::types::{Data, Entry, LogId, Vote};

/// A log of format 2 must be readable for ever.
#[tokio::test]
async fn log_of_format_2_loads() {
    let golden = include_str!("../../golden/log-2.hex");
    let disk = Fragile::new(SEGMENT);
    for line in golden.lines() {
        let (name, digits) = line.split_once(' ').unwrap();
        let mut bytes = hex::decode(digits).unwrap();
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

/// Makes the golden log and prints it.
#[tokio::test]
#[ignore = "prints golden/log-2.hex, which must not change"]
async fn print_the_golden_log() {
    let disk = Fragile::new(SEGMENT);
    let mut log = open(&disk).unwrap();
    let id = |index| LogId::new(LeaderId::new(7, 1).to_committed(), index);
    let members = openraft::Membership::new_with_defaults(vec![[1, 2, 3].into()], []);
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
    wait_closed(&disk);
    for name in disk.names() {
        let bytes = disk.bytes(&name);
        println!("golden {name} {}", hex::encode(&bytes[..used(&bytes)]));
    }
}
