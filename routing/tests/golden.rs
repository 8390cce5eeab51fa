//! The encodings of a released level: batches and the snapshot that they lead to, byte for byte.
//!
//! `LIMES_BLESS=1` rewrites the file; do so only for a level that was never released.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use limes_routing::{Batch, EdgeId, Event, NodeId, Revision, ServiceId, SessionNo, Tables, Verdict};
use support::{down, founded, incarnation, numbered, offline, online, plain, service, up};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/level-1.hex");

fn history() -> Vec<Batch> {
    let (_, mut batches) = founded();
    let names = |name: &str| vec![name.into()];
    let of = |names| Event::MethodsRegistered { service: ServiceId(1), session: SessionNo(2), names };
    batches.extend([
        plain(up(1, 1)),
        plain(up(2, 1)),
        plain(up(3, 1)),
        plain(Event::MemberAdded { name: "node-4".into(), mesh: "10.0.0.4:30013".into(), nonce: [4; 16] }),
        numbered(
            1,
            2,
            1,
            vec![Event::EdgeIdsReserved { count: 100 }, Event::ServiceIdsReserved { count: 10 }],
        ),
        numbered(1, 2, 2, vec![online(1_000_000_000_001, 1), service(1, 2), of(names("greet"))]),
        numbered(2, 3, 1, vec![online(1_000_000_000_002, 1), online(1_000_000_000_001, 2)]),
        numbered(1, 2, 3, vec![offline(1_000_000_000_001, 7, 0)]),
        numbered(3, 4, 1, vec![online(6, 9), online(8, 10)]),
        plain(down(3, 4)),
        plain(Event::SettingChanged { key: "colour".into(), value: "green".into() }),
        plain(Event::Drain { node: NodeId(2), on: true }),
        plain(Event::SuspendedDropped { node: NodeId(3), epoch: limes_routing::Epoch(4) }),
    ]);
    batches.extend(callbacks_and_members());
    batches.extend(services_and_a_resume());
    batches
}

fn callbacks_and_members() -> Vec<Batch> {
    let owed = Event::CallbackOwed {
        edge: EdgeId(11),
        incarnation: incarnation(15, 0),
        meta: (&b"told"[..]).into(),
        addr: "192.0.2.9:1".into(),
    };
    let settled = Event::CallbackSettled { edge: EdgeId(6), incarnation: incarnation(10, 0) };
    let admitting = |edge| Event::EdgeAdmitting { edge: EdgeId(edge), session: SessionNo(edge) };
    let refused = Event::EdgeRefused { edge: EdgeId(12), session: SessionNo(12) };
    vec![
        numbered(2, 3, 2, vec![admitting(12), admitting(13), refused, owed, settled]),
        plain(Event::Kick { edge: EdgeId(1_000_000_000_002) }),
        plain(Event::MemberPromoted { node: NodeId(5) }),
        plain(Event::MemberAdded { name: "node-3".into(), mesh: "10.0.0.3:30013".into(), nonce: [3; 16] }),
        plain(Event::MemberRemoved { node: NodeId(3) }),
        plain(Event::LevelRaised { level: 1 }),
        plain(Event::SettingChanged { key: "colour".into(), value: String::new() }),
        plain(Event::SettingChanged { key: "shape".into(), value: "round".into() }),
    ]
}

fn services_and_a_resume() -> Vec<Batch> {
    let (service, session) = (ServiceId(2), SessionNo(7));
    let names = || vec!["one".into(), "two".into()];
    let one = || vec!["one".into()];
    let online_again = |session| Event::ServiceOnline {
        service,
        session,
        name: "sorter".into(),
        instance: [5; 16],
        meta: (&b"v2"[..]).into(),
        addr: "192.0.2.3:99".into(),
    };
    vec![
        numbered(
            1,
            2,
            4,
            vec![
                online_again(SessionNo(6)),
                online_again(session),
                Event::MethodsRegistered { service, session, names: names() },
                Event::MethodsWithdrawn { service, session, names: one() },
                Event::TopicsSubscribed { service, session, names: names() },
                Event::TopicsUnsubscribed { service, session, names: one() },
                online(20, 20),
                online(21, 21),
                online(22, 22),
                support::service(3, 3),
                Event::ServiceOffline { service: ServiceId(3), session: SessionNo(3) },
            ],
        ),
        plain(down(1, 2)),
        numbered(2, 3, 3, vec![online(21, 30)]),
        plain(up(1, 1)),
        numbered(
            1,
            26,
            1,
            vec![
                Event::EdgeResumed { edge: EdgeId(20), incarnation: incarnation(23, 6) },
                Event::EdgeResumed { edge: EdgeId(21), incarnation: incarnation(23, 7) },
                Event::ServiceResumed { service, session },
            ],
        ),
        numbered(1, 26, 2, vec![Event::ResumeEnd {}, online(23, 23)]),
        plain(down(2, 3)),
    ]
}

fn fold(batches: &[Batch]) -> Tables {
    let mut tables = Tables::new();
    for (batch, revision) in batches.iter().zip(1..) {
        tables.apply(Revision(revision), batch);
    }
    tables
}

fn unhex(text: &str) -> Bytes {
    hex::decode(text).unwrap().into()
}

#[test]
fn level_1_is_read_and_written_as_it_was_released() {
    let batches = history();
    let tables = fold(&batches);
    let mut lines: Vec<String> = batches.iter().map(|batch| hex::encode(batch.encode())).collect();
    lines.push(hex::encode(tables.encode_snapshot().concat()));
    if std::env::var_os("LIMES_BLESS").is_some() {
        std::fs::write(FILE, lines.join("\n") + "\n").unwrap();
    }
    let golden = std::fs::read_to_string(FILE).unwrap();
    let golden: Vec<&str> = golden.lines().collect();
    assert_eq!(golden, lines, "what is written has changed");
    let (snapshot, entries) = golden.split_last().unwrap();
    let read: Vec<Batch> = entries.iter().map(|line| Batch::decode(unhex(line)).unwrap()).collect();
    assert_eq!(read, batches);
    assert_eq!(fold(&read), Tables::decode_snapshot(unhex(snapshot)).unwrap());
}

/// Snapshots of version 1 have no times at which sessions began; everything else of them is still read.
#[test]
fn a_snapshot_of_version_1_still_loads() {
    let old = include_str!("../golden/snapshot-1.hex").trim_end();
    let tables = Tables::decode_snapshot(unhex(old)).unwrap();
    let now = fold(&history());
    let edges = |tables: &Tables| {
        tables
            .edges()
            .map(|(edge, row)| (edge, row.home, row.meta.to_vec(), row.addr.to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(edges(&tables), edges(&now));
    let services = |tables: &Tables| {
        tables
            .services()
            .map(|row| (row.service, row.home, row.name.clone(), row.methods.clone(), row.topics.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(services(&tables), services(&now));
    assert!(tables.edges().all(|(_, row)| row.born_ms == 0) && now.edges().any(|(_, row)| row.born_ms > 0));
    assert_eq!(tables.revision(), now.revision());
    assert_eq!(Tables::decode_snapshot(tables.encode_snapshot().concat().into()).unwrap(), tables);
}

/// The effects of this history on every node, in the order in which it acts on them.
#[test]
fn level_1_has_these_effects_in_this_order() {
    const EFFECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/level-1.effects");
    let mut tables = Tables::new();
    let mut lines = Vec::new();
    for (batch, revision) in history().iter().zip(1..) {
        let applied = tables.apply(Revision(revision), batch);
        lines.extend(applied.effects.iter().map(|effect| format!("{revision}: {effect:?}")));
    }
    if std::env::var_os("LIMES_BLESS").is_some() {
        std::fs::write(EFFECTS, lines.join("\n") + "\n").unwrap();
    }
    let golden = std::fs::read_to_string(EFFECTS).unwrap();
    assert_eq!(golden.lines().collect::<Vec<_>>(), lines, "the effects have changed");
}

/// The golden history covers every event: an event that is not in it would not be fixed.
#[test]
fn history_has_every_event_and_nearly_all_are_accepted() {
    let mut tables = Tables::new();
    let (mut names, mut refused) = (BTreeSet::new(), Vec::new());
    for (batch, revision) in history().iter().zip(1..) {
        let applied = tables.apply(Revision(revision), batch);
        for (event, verdict) in batch.events.iter().zip(applied.verdicts) {
            names.insert(event.name());
            if let Verdict::Rejected(reason) = verdict {
                refused.push(format!("{} at {revision}: {reason}", event.name()));
            }
        }
    }
    assert_eq!(names.len(), 28, "{names:?}");
    let expected = [
        "EdgeOffline at 9: the session is no longer in the tables",
        "LevelRaised at 20: nothing to change",
        "EdgeResumed at 27: the session is no longer in the tables",
    ];
    assert_eq!(refused, expected);
    assert!(tables.edge_count() > 0 && tables.edge_rows() > tables.edge_count());
    assert!(tables.pending_callbacks().count() > 1 && tables.topic("two").count() == 1);
}

#[test]
fn truncated_and_unknown_bytes_are_refused_without_a_panic() {
    let golden = std::fs::read_to_string(FILE).unwrap();
    for line in golden.lines() {
        let whole = unhex(line);
        for cut in 0..whole.len() {
            assert!(Batch::decode(whole.slice(..cut)).is_err());
            assert!(Tables::decode_snapshot(whole.slice(..cut)).is_err());
        }
        for at in 0..whole.len() {
            let mut other = whole.to_vec();
            other[at] ^= 0x55;
            // Some flips give another valid batch; none may panic.
            let _ = Batch::decode(other.clone().into());
            let _ = Tables::decode_snapshot(other.into());
        }
    }
}
