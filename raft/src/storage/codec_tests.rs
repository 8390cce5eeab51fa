//! Golden bytes: today's encoding must equal the stored one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic fails the test")]

use std::fmt::Debug;

use openraft::vote::RaftLeaderId;

use super::*;

fn id(term: u64, node: u64, index: u64) -> LogId {
    LogId::new(LeaderId { term, node_id: node }.to_committed(), index)
}

fn membership() -> Membership {
    let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 3, 57])];
    let nodes = [(1, "10.0.0.1:30013"), (2, "10.0.0.2:30013"), (3, "10.0.0.3:30013"), (57, "ü:1")];
    let nodes: BTreeMap<u64, Node> = nodes.into_iter().map(|(id, addr)| (id, Node::new(addr))).collect();
    Membership::new(configs, nodes).unwrap()
}

fn entry(index: u64, payload: EntryPayload<Data, u64, Node>) -> Entry {
    Entry { log_id: id(7, 2, index), payload }
}

/// One line of the golden file. Also checks that the bytes decode to the value, and that neither fewer nor
/// more bytes do.
fn line<T: Encode + Debug>(name: &str, value: &T) -> String {
    let bytes = encode(value);
    let back: T = decode(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(format!("{back:?}"), format!("{value:?}"), "{name}");
    for len in 0..bytes.len() {
        assert!(decode::<T>(bytes.slice(..len)).is_err(), "{name} of {len} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(decode::<T>(longer.into()).err(), Some(DecodeError::Trailing(1)), "{name}");
    format!("{name} {}\n", hex::encode(&bytes))
}

#[test]
fn encoding_is_that_of_format_2() {
    let vote = Vote { leader_id: LeaderId { term: 7, node_id: 2 }, committed: true };
    let batch = Data(Bytes::from_static(b"batch"));
    let entries = vec![
        entry(9, EntryPayload::Blank),
        entry(10, EntryPayload::Normal(batch)),
        entry(11, EntryPayload::Membership(membership())),
    ];
    let meta = SnapshotMeta {
        last_log_id: Some(id(7, 2, 11)),
        last_membership: StoredMembership::new(Some(id(7, 2, 8)), membership()),
    };
    let append = AppendEntriesRequest::<TypeConfig> {
        vote,
        prev_log_id: Some(id(6, 1, 8)),
        entries: entries.clone(),
        leader_commit: None,
    };
    let mut lines = line("vote", &vote) + &line("log-id", &Some(id(7, 2, 9)));
    for (entry, name) in entries.iter().zip(["blank", "normal", "membership"]) {
        lines += &line(name, entry);
    }
    lines += &line("meta", &meta);
    lines += &line(
        "meta-empty",
        &SnapshotMeta { last_log_id: None, last_membership: StoredMembership::default() },
    );
    lines += &line("append", &append);
    for (name, answer) in [
        ("append-ok", AppendEntriesResponse::Success),
        ("append-partly", AppendEntriesResponse::PartialSuccess(Some(id(7, 2, 9)))),
        ("append-conflict", AppendEntriesResponse::Conflict),
        ("append-higher", AppendEntriesResponse::HigherVote(vote)),
    ] {
        lines += &line::<AppendEntriesResponse<TypeConfig>>(name, &answer);
    }
    let ask = VoteRequest::<TypeConfig> { vote, last_log_id: Some(id(7, 2, 9)), leadership_transfer: true };
    lines += &line("vote-ask", &ask);
    lines += &line("vote-answer", &VoteResponse::<TypeConfig>::new(vote, None, false));
    lines += &line("transfer", &TransferLeaderRequest::<TypeConfig>::new(vote, 3, Some(id(7, 2, 9))));
    let flushed = TransferLeaderError::LogNotFlushed { expected: Some(id(7, 2, 9)), actual: None };
    for (name, answer) in [
        ("transfer-ok", Ok(())),
        ("transfer-vote", Err(TransferLeaderError::VoteChanged { expected: vote, actual: vote })),
        ("transfer-log", Err(flushed)),
    ] {
        lines += &line::<TransferLeaderResponse<TypeConfig>>(name, &answer);
    }
    lines += &line("snapshot-answer", &SnapshotResponse::<TypeConfig>::new(vote));
    let golden = include_str!("../../golden/format-2.hex");
    assert_eq!(lines, golden, "the format has changed without a new format number");
}

#[test]
fn unknown_tag_is_named_in_the_error() {
    let mut bytes = encode(&entry(9, EntryPayload::Blank)).to_vec();
    *bytes.last_mut().unwrap() = 77;
    let error = decode::<Entry>(bytes.into()).unwrap_err();
    assert_eq!(error.to_string(), "kind of entry 77 is not known to this version");
}
