//! Random histories: crashes, late and repeated batches, gaps, takeovers, nodes that are fenced and
//! come back, with snapshots anywhere between. A failure prints the bytes that lead to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::follower::Follower;
use common::history::{beginning, plain, play};
use common::naive::Naive;
use common::{reload, snapshot};
use limes_routing::{
    Batch, EdgeId, Event, Incarnation, NodeId, Origin, Reason, Revision, ServiceId, SessionNo, Tables,
    Verdict, diff,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<[u8; 4]>(), 0..100).prop_map(|ops| ops.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After every entry the tables agree with the naive model, and every rule holds.
    #[test]
    fn tables_show_what_the_rules_say(bytes in bytes()) {
        let mut naive = Naive::default();
        play(&bytes, |step| {
            naive.apply(step.revision, step.batch);
            naive.compare(step.after);
            step.after.check().unwrap();
        });
    }

    /// Continuing from a snapshot gives the same verdicts, effects and tables.
    #[test]
    fn a_snapshot_anywhere_changes_nothing(bytes in bytes(), at in 0..100_u64) {
        let mut other = Tables::new();
        let mut entries = 0;
        let tables = play(&bytes, |step| {
            if entries == at {
                other = reload(&other);
            }
            entries += 1;
            assert_eq!(&other.apply(step.revision, step.batch), step.applied);
            assert_eq!(&other, step.after);
        });
        prop_assert_eq!(snapshot(&tables), snapshot(&other));
    }

    /// A batch means the same after it has been through the log, and cut anywhere it is refused.
    #[test]
    fn batches_survive_the_log_and_cuts_are_seen(bytes in bytes()) {
        play(&bytes, |step| {
            let encoded = step.batch.encode();
            assert_eq!(&Batch::decode(encoded.clone()).unwrap(), step.batch);
            for cut in 0..encoded.len() {
                assert!(Batch::decode(encoded.slice(..cut)).is_err(), "cut at {cut}");
            }
        });
    }

    /// Cut anywhere a snapshot is refused; changed anywhere it is never a panic.
    #[test]
    fn damaged_snapshots_are_no_panic(bytes in bytes(), flips in vec(any::<(u16, u8)>(), 1..20)) {
        let whole = snapshot(&play(&bytes, |_| {}));
        for (at, flip) in flips {
            let at = usize::from(at) % whole.len();
            prop_assert!(Tables::decode_snapshot(whole.slice(..at)).is_err());
            let mut damaged = whole.to_vec();
            damaged[at] ^= flip;
            let _ = Tables::decode_snapshot(damaged.into());
        }
    }

    /// Effects tell all that changed, and the difference of two states tells what the effects
    /// between them would have had.
    #[test]
    fn effects_and_differences_tell_the_same(bytes in bytes(), from in 0..60_u64, len in 0..60_u64) {
        let (mut all, mut jumps) = (Follower::default(), Follower::default());
        let mut left = Tables::new();
        let mut entries = 0;
        let tables = play(&bytes, |step| {
            all.follow(&step.applied.effects);
            all.compare(step.after);
            if !(from..from + len).contains(&entries) {
                let jump = diff(&left, step.before);
                jumps.follow(&jump);
                jumps.follow(&step.applied.effects);
                jumps.compare(step.after);
                left = step.after.clone();
            }
            entries += 1;
        });
        jumps.follow(&diff(&left, &reload(&tables)));
        jumps.compare(&tables);
        prop_assert_eq!(diff(&tables, &reload(&tables)), vec![]);
    }

    /// R3: a batch is refused whole or numbered next, and refused it changes nothing.
    #[test]
    fn a_refused_batch_changes_nothing(bytes in bytes()) {
        play(&bytes, |step| {
            let of_batch =
                [Reason::Fenced, Reason::Duplicate, Reason::Gap].map(Verdict::Rejected);
            if step.applied.verdicts.first().is_some_and(|verdict| of_batch.contains(verdict)) {
                assert!(step.applied.effects.is_empty());
                let mut same = step.before.clone();
                same.apply(step.revision, &Batch { origin: None, time_ms: 0, events: vec![] });
                assert_eq!(&same, step.after);
            }
            // Once more, later: the second is refused, whatever the first was.
            if let Some(origin) = step.batch.origin {
                let mut again = step.after.clone();
                let applied = again.apply(Revision(step.revision.0 + 1), step.batch);
                let last = again.node(origin.node).map(|row| row.last);
                let refused = applied.verdicts.iter().all(|verdict| of_batch.contains(verdict));
                assert!(refused, "{origin:?} was applied twice; last is {last:?}");
            }
        });
    }

    /// R1, R2, R3: of an edge only the session with the newest "online" is ever shown, and an end
    /// that names another session leaves it there.
    #[test]
    fn an_old_session_never_comes_back(bytes in bytes()) {
        let mut newest = BTreeMap::<EdgeId, Incarnation>::new();
        play(&bytes, |step| {
            for (edge, row) in step.after.edges() {
                let known = newest.entry(edge).or_insert(row.home.incarnation);
                assert!(row.home.incarnation >= *known, "edge {edge} went back");
                *known = row.home.incarnation;
            }
            for (edge, row) in step.before.edges() {
                let named = step.batch.events.iter().any(|event| match event {
                    Event::EdgeOffline { edge: of, incarnation } => {
                        *of == edge && *incarnation == row.home.incarnation
                    }
                    Event::EdgeOnline { edge: of, .. }
                    | Event::Kick { edge: of }
                    | Event::EdgeResumed { edge: of, .. } => *of == edge,
                    Event::NodeUp { node, .. }
                    | Event::NodeDown { node, .. }
                    | Event::MemberRemoved { node } => *node == row.home.node,
                    _ => false,
                });
                let is = step.after.edge(edge).map(|row| row.home);
                assert!(named || is == Some(row.home), "edge {edge} went from {:?} to {is:?}", row.home);
            }
        });
    }

    /// Reserved ids are never reserved again, whichever node asks and whatever happens in between.
    #[test]
    fn ids_are_given_once(bytes in bytes()) {
        let (mut edges, mut services) = (0, 0);
        play(&bytes, |step| {
            for (event, verdict) in step.batch.events.iter().zip(&step.applied.verdicts) {
                let Verdict::Ids { first, count } = *verdict else { continue };
                let (next, asked) = match event {
                    Event::EdgeIdsReserved { count } => (&mut edges, *count),
                    Event::ServiceIdsReserved { count } => (&mut services, *count),
                    other => panic!("{} is answered with ids", other.name()),
                };
                assert!(first >= *next && count == asked, "{first} was given before, or not {asked}");
                *next = first + u64::from(count);
            }
        });
    }

    /// A copy is a copy: what is applied afterwards does not reach it.
    #[test]
    fn copies_do_not_change(bytes in bytes()) {
        let mut copies = Vec::new();
        play(&bytes, |step| copies.push((step.before.clone(), snapshot(step.before))));
        for (copy, bytes) in copies {
            prop_assert_eq!(snapshot(&copy), bytes);
        }
    }
}

/// Thousands of edges: rows are split over shards, removed and inserted again, and always found.
#[test]
fn shards_split_and_merge_without_losing_rows() {
    let mut tables = Tables::new();
    for (at, batch) in (1..).zip(beginning()) {
        tables.apply(Revision(at), &batch);
    }
    let mut naive = BTreeMap::new();
    let (mut seed, mut revision) = (0x5EED_u64, 10);
    println!("seed {seed}");
    let mut numbers = [0; 4];
    for turn in 0..60_u64 {
        let node = 1 + turn % 3;
        let row = tables.node(NodeId(node)).unwrap();
        numbers[node as usize] = row.last + 1;
        let origin = Origin { node: NodeId(node), epoch: row.epoch, number: row.last + 1 };
        let mut events = Vec::new();
        for session in 0..300 {
            seed = limes_routing::pick::mix(seed + 1);
            // Some rise as allotted ids do, some are anywhere.
            let edge = EdgeId(if turn % 2 == 0 { turn * 300 + session } else { seed % 20_000 });
            let held = tables.edge(edge).map(|row| row.home).filter(|home| home.node == NodeId(node));
            events.push(match held {
                Some(home) if turn > 30 => Event::EdgeOffline { edge, incarnation: home.incarnation },
                _ => online(edge, session),
            });
        }
        revision += 1;
        let applied = tables
            .apply(Revision(revision), &Batch { origin: Some(origin), time_ms: 0, events: events.clone() });
        for (event, verdict) in events.iter().zip(applied.verdicts) {
            match (event, verdict) {
                (Event::EdgeOnline { edge, .. }, Verdict::Accepted(at)) => drop(naive.insert(*edge, at)),
                (Event::EdgeOffline { edge, .. }, Verdict::Accepted(_)) => drop(naive.remove(edge)),
                _ => {}
            }
        }
        let shown: Vec<_> = tables.edges().map(|(edge, row)| (edge, row.home.incarnation.0)).collect();
        assert_eq!(shown, naive.iter().map(|(edge, at)| (*edge, *at)).collect::<Vec<_>>(), "turn {turn}");
    }
    tables.check().unwrap();
    reload(&tables);
    let rows = tables.edge_rows();
    tables.apply(Revision(revision + 1), &plain(Event::MemberRemoved { node: NodeId(2) }));
    tables.check().unwrap();
    assert!(rows > 2_000 && tables.edge_rows() < rows && tables.edge_count() == tables.edge_rows());
    reload(&tables);
}

fn online(edge: EdgeId, session: u64) -> Event {
    Event::EdgeOnline {
        edge,
        session: SessionNo(session),
        meta: bytes::Bytes::new(),
        addr: "".into(),
        moving: false,
        owes_offline: false,
    }
}

/// What the random histories are worth: each kind of event is accepted in some and refused for each
/// reason in others.
#[test]
fn histories_reach_every_event_and_every_reason() {
    let (mut accepted, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut seed = 0x5EED_u64;
    println!("seed {seed}");
    for _ in 0..400 {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            seed = limes_routing::pick::mix(seed + 1);
            bytes.extend_from_slice(&seed.to_be_bytes());
        }
        play(&bytes, |step| {
            for (event, verdict) in step.batch.events.iter().zip(&step.applied.verdicts) {
                match verdict {
                    Verdict::Rejected(reason) => refused.insert(reason.to_string()),
                    _ => accepted.insert(event.name()),
                };
            }
        });
    }
    // At the first level there is none above, and no node that cannot work at it.
    assert_eq!(accepted.len(), 28, "accepted were only {accepted:?}");
    assert_eq!(refused.len(), 8, "refused was only for {refused:?}");
}

/// A node may report its own end; the epoch of the events behind it in the batch has ended.
#[test]
fn events_behind_a_node_down_in_its_batch_are_fenced() {
    let mut tables = Tables::new();
    for (at, batch) in (1..).zip(beginning()) {
        tables.apply(Revision(at), &batch);
    }
    let epoch = tables.live_epoch(NodeId(1)).unwrap();
    let origin = Some(Origin { node: NodeId(1), epoch, number: 1 });
    let events = vec![Event::NodeDown { node: NodeId(1), epoch }, online(EdgeId(1), 1)];
    let applied = tables.apply(Revision(9), &Batch { origin, time_ms: 0, events });
    assert_eq!(applied.verdicts[1], Verdict::Rejected(Reason::Fenced));
    assert_eq!(tables.edge_rows(), 0);
}

/// An operator who kicks a service ends all of its sessions, and no others.
#[test]
fn kick_of_a_service_ends_all_its_sessions() {
    let mut tables = Tables::new();
    for (at, batch) in (1..).zip(beginning()) {
        tables.apply(Revision(at), &batch);
    }
    let epoch = tables.live_epoch(NodeId(1)).unwrap();
    let online = [(7, 1), (7, 2), (7, 3), (8, 4)].map(|(service, session)| Event::ServiceOnline {
        service: ServiceId(service),
        session: SessionNo(session),
        name: "svc".into(),
        instance: [0; 16],
        meta: Bytes::new(),
        addr: "".into(),
    });
    let origin = Some(Origin { node: NodeId(1), epoch, number: 1 });
    let came = tables.apply(Revision(9), &Batch { origin, time_ms: 0, events: online.to_vec() });
    assert!(came.verdicts.iter().all(|verdict| matches!(verdict, Verdict::Accepted(_))));
    tables.apply(Revision(10), &plain(Event::KickService { service: ServiceId(7) }));
    let left: Vec<_> = tables.services().map(|row| row.service).collect();
    assert_eq!(left, [ServiceId(8)]);
}
