//! Random histories with crashes, stale events, duplicates and gaps: the invariants hold after each
//! entry (debug builds check them in `apply`), and snapshots and copies in between change nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use limes_routing::{
    Batch, EdgeId, Event, NodeId, Reason, Revision, ServiceId, SessionNo, Tables, Verdict, diff,
};
use proptest::prelude::*;
use support::{down, founded, incarnation, numbered, offline, online, plain, service, up};

/// One step of a history; small numbers, so that steps affect the same rows.
#[derive(Debug, Clone)]
enum Step {
    Up { node: u64, boot: u8 },
    Down { node: u64, back: u64 },
    Drop { node: u64, back: u64 },
    Batch { node: u64, back: u64, skew: i64, events: Vec<Change> },
}

#[derive(Debug, Clone)]
enum Change {
    Online(u64, u64),
    Offline(u64, u64),
    Resumed(u64, u64),
    ResumeEnd,
    Service(u64, u64),
    ServiceOffline(u64, u64),
    Register(u64, u64, u8),
    Withdraw(u64, u64, u8),
    Settle(u64, u64),
    Ids(u32),
    Kick(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let edge = 1..5_u64;
    let back = 0..12_u64;
    prop_oneof![
        4 => (edge.clone(), 1..6_u64).prop_map(|(e, s)| Change::Online(e, s)),
        3 => (edge.clone(), back.clone()).prop_map(|(e, b)| Change::Offline(e, b)),
        3 => (edge.clone(), back.clone()).prop_map(|(e, b)| Change::Resumed(e, b)),
        1 => Just(Change::ResumeEnd),
        2 => (1..4_u64, 1..4_u64).prop_map(|(s, n)| Change::Service(s, n)),
        1 => (1..4_u64, 1..4_u64).prop_map(|(s, n)| Change::ServiceOffline(s, n)),
        1 => (1..4_u64, 1..4_u64, 0..3_u8).prop_map(|(s, n, m)| Change::Register(s, n, m)),
        1 => (1..4_u64, 1..4_u64, 0..3_u8).prop_map(|(s, n, m)| Change::Withdraw(s, n, m)),
        1 => (edge.clone(), back).prop_map(|(e, b)| Change::Settle(e, b)),
        1 => (1..5_u32).prop_map(Change::Ids),
        1 => edge.prop_map(Change::Kick),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let node = 1..5_u64;
    prop_oneof![
        2 => (node.clone(), 0..3_u8).prop_map(|(node, boot)| Step::Up { node, boot }),
        1 => (node.clone(), 0..2_u64).prop_map(|(node, back)| Step::Down { node, back }),
        1 => (node.clone(), 0..2_u64).prop_map(|(node, back)| Step::Drop { node, back }),
        8 => (node, 0..2_u64, -1..2_i64, prop::collection::vec(change(), 1..4))
            .prop_map(|(node, back, skew, events)| Step::Batch { node, back, skew, events }),
    ]
}

/// The batch of a step, given the tables: mostly valid, sometimes of an older epoch, with a used number or with a gap.
fn batch(tables: &Tables, step: &Step) -> Batch {
    let epoch = |node: u64, back: u64| {
        let epoch = tables.node(NodeId(node)).map_or(0, |row| row.epoch.0);
        epoch.saturating_sub(back)
    };
    match step {
        Step::Up { node, boot } => plain(up(*node, *boot)),
        Step::Down { node, back } => plain(down(*node, epoch(*node, *back))),
        Step::Drop { node, back } => plain(Event::SuspendedDropped {
            node: NodeId(*node),
            epoch: limes_routing::Epoch(epoch(*node, *back)),
        }),
        Step::Batch { node, back, skew, events } => {
            let last = tables.node(NodeId(*node)).map_or(0, |row| row.last);
            let number = (last + 1).saturating_add_signed(*skew);
            let events = events.iter().map(|change| event(tables, change)).collect();
            numbered(*node, epoch(*node, *back), number, events)
        }
    }
}

fn event(tables: &Tables, change: &Change) -> Event {
    let held = |edge: u64, back: u64| {
        let row = tables.edge_row(EdgeId(edge)).map(|row| row.home.incarnation.0);
        let (revision, ordinal) = row.map_or((1, 0), |at| (at.revision.0, at.ordinal));
        // Half of the time that of the row, else an older one.
        incarnation(revision.saturating_sub(back / 2), ordinal)
    };
    let name = |m: u8| vec![format!("method-{m}").into()];
    match change {
        Change::Online(edge, session) => online(*edge, *session),
        Change::Offline(edge, back) => {
            Event::EdgeOffline { edge: EdgeId(*edge), incarnation: held(*edge, *back) }
        }
        Change::Resumed(edge, back) => {
            Event::EdgeResumed { edge: EdgeId(*edge), incarnation: held(*edge, *back) }
        }
        Change::ResumeEnd => Event::ResumeEnd {},
        Change::Service(id, session) => service(*id, *session),
        Change::ServiceOffline(id, session) => {
            Event::ServiceOffline { service: ServiceId(*id), session: SessionNo(*session) }
        }
        Change::Register(id, session, m) => Event::MethodsRegistered {
            service: ServiceId(*id),
            session: SessionNo(*session),
            names: name(*m),
        },
        Change::Withdraw(id, session, m) => {
            Event::MethodsWithdrawn { service: ServiceId(*id), session: SessionNo(*session), names: name(*m) }
        }
        Change::Settle(edge, back) => {
            Event::CallbackSettled { edge: EdgeId(*edge), incarnation: held(*edge, *back) }
        }
        Change::Ids(count) => Event::EdgeIdsReserved { count: *count },
        Change::Kick(edge) => Event::Kick { edge: EdgeId(*edge) },
    }
}

fn bytes(tables: &Tables) -> Vec<u8> {
    tables.encode_snapshot().concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Invariants hold after each entry; encodings round-trip; a snapshot at any entry leads to the same tables.
    #[test]
    fn a_history_and_a_snapshot_of_its_middle_come_to_the_same(steps in prop::collection::vec(step(), 1..60), cut in 0..60_usize) {
        let (mut tables, _) = founded();
        let mut other: Option<Tables> = None;
        for (at, step) in steps.iter().enumerate() {
            let revision = Revision(at as u64 + 2);
            let batch = batch(&tables, step);
            let read = Batch::decode(batch.encode()).unwrap();
            prop_assert_eq!(&read, &batch);
            if at == cut {
                other = Some(Tables::decode_snapshot(bytes(&tables).into()).unwrap());
                prop_assert_eq!(other.as_ref().unwrap(), &tables);
            }
            let before = tables.clone();
            let applied = tables.apply(revision, &batch);
            prop_assert_eq!(tables.check(), Ok(()));
            if let Some(other) = &mut other {
                prop_assert_eq!(&other.apply(revision, &batch), &applied);
            }
            fenced(&before, &tables, &batch, &applied.verdicts)?;
        }
        if let Some(other) = other {
            prop_assert_eq!(bytes(&other), bytes(&tables));
        }
    }

    /// A batch that is applied again changes nothing (R3).
    #[test]
    fn each_batch_counts_once(steps in prop::collection::vec(step(), 1..40)) {
        let (mut tables, _) = founded();
        let mut revision = 1;
        for step in &steps {
            let batch = batch(&tables, step);
            revision += 1;
            let first = tables.apply(Revision(revision), &batch);
            let took = first.verdicts.iter().any(|v| !matches!(v, Verdict::Rejected(_)));
            if batch.origin.is_some() && took {
                let before = tables.clone();
                revision += 1;
                let again = tables.apply(Revision(revision), &batch);
                prop_assert!(again.effects.is_empty());
                prop_assert!(again.verdicts.iter().all(|v| matches!(v, Verdict::Rejected(Reason::Duplicate))));
                let same = bytes(&before)[25..] == bytes(&tables)[25..];
                prop_assert!(same, "more than the revision has changed");
            }
        }
    }

    /// The difference between two states has the effects of the skipped entries.
    #[test]
    fn a_difference_leads_to_the_same_routes(steps in prop::collection::vec(step(), 1..40), cut in 0..40_usize) {
        use limes_routing::Effect;
        let (mut tables, _) = founded();
        let mut early = tables.clone();
        for (at, step) in steps.iter().enumerate() {
            if at == cut {
                early = tables.clone();
            }
            let batch = batch(&tables, step);
            tables.apply(Revision(at as u64 + 2), &batch);
        }
        let mut routes: std::collections::BTreeMap<_, _> =
            (1..5).filter_map(|e| early.edge_row(EdgeId(e)).map(|row| (EdgeId(e), row.home))).collect();
        for effect in diff(&early, &tables) {
            match effect {
                Effect::EdgeOnline { edge, home, .. } => drop(routes.insert(edge, home)),
                Effect::EdgeGone { edge, .. } => drop(routes.remove(&edge)),
                _ => {}
            }
        }
        let now: std::collections::BTreeMap<_, _> =
            (1..5).filter_map(|e| tables.edge_row(EdgeId(e)).map(|row| (EdgeId(e), row.home))).collect();
        prop_assert_eq!(routes, now);
    }
}

/// R2 and R3 for a single entry.
fn fenced(before: &Tables, after: &Tables, batch: &Batch, verdicts: &[Verdict]) -> Result<(), TestCaseError> {
    let Some(origin) = batch.origin else { return Ok(()) };
    let live = before.live_epoch(origin.node) == Some(origin.epoch);
    let next = before.node(origin.node).map_or(0, |row| row.last) + 1;
    if !live || origin.number != next {
        prop_assert!(verdicts.iter().all(|v| matches!(v, Verdict::Rejected(_))));
        prop_assert_eq!(&bytes(before)[25..], &bytes(after)[25..]);
        return Ok(());
    }
    if let ([Event::EdgeOnline { edge, .. }], [Verdict::Accepted(at)]) = (&batch.events[..], verdicts) {
        let row = after.edge(*edge);
        prop_assert_eq!(row.map(|row| row.home.incarnation.0), Some(*at), "the newest wins");
    }
    Ok(())
}

/// A late end must not remove a newer session.
#[test]
fn late_end_of_an_ended_session_does_not_affect_the_live_one() {
    let (mut tables, _) = founded();
    tables.apply(Revision(2), &plain(up(1, 1)));
    tables.apply(Revision(3), &plain(up(2, 1)));
    tables.apply(Revision(4), &numbered(1, 2, 1, vec![online(9, 1)]));
    tables.apply(Revision(5), &numbered(2, 3, 1, vec![online(9, 1)]));
    let late = tables.apply(Revision(6), &numbered(1, 2, 2, vec![offline(9, 4, 0)]));
    assert_eq!(late.verdicts, [Verdict::Rejected(Reason::Stale)]);
    assert_eq!(tables.edge(EdgeId(9)).unwrap().home.node, NodeId(2));
}

/// R5: a down node's rows are hidden; a resume restores exactly those that still exist.
#[test]
fn down_hides_rows_and_resume_revives_those_that_were_not_replaced() {
    let (mut tables, _) = founded();
    tables.apply(Revision(2), &plain(up(1, 1)));
    tables.apply(Revision(3), &plain(up(2, 1)));
    tables.apply(Revision(4), &numbered(1, 2, 1, vec![online(8, 1), online(9, 2), online(7, 3)]));
    tables.apply(Revision(5), &plain(down(1, 2)));
    assert_eq!(tables.edges().count(), 0);
    tables.apply(Revision(6), &numbered(2, 3, 1, vec![online(9, 1)]));
    let fresh = tables.apply(Revision(7), &plain(up(1, 1)));
    assert_eq!(fresh.verdicts, [Verdict::Epoch(limes_routing::Epoch(7))]);
    let resumed =
        |edge, ordinal| Event::EdgeResumed { edge: EdgeId(edge), incarnation: incarnation(4, ordinal) };
    let applied = tables.apply(Revision(8), &numbered(1, 7, 1, vec![resumed(8, 0), resumed(9, 1)]));
    assert!(matches!(applied.verdicts[..], [Verdict::Accepted(_), Verdict::Rejected(Reason::Stale)]));
    tables.apply(Revision(9), &numbered(1, 7, 2, vec![Event::ResumeEnd {}]));
    assert_eq!(tables.edge(EdgeId(8)).unwrap().home.node, NodeId(1));
    assert_eq!(tables.edge(EdgeId(9)).unwrap().home.node, NodeId(2));
    assert!(tables.edge_row(EdgeId(7)).is_none(), "what is not resumed is dropped");
}

/// The callback about an edge whose node failed is pending until it is settled.
#[test]
fn edges_of_a_failed_node_have_pending_callbacks() {
    let (mut tables, _) = founded();
    tables.apply(Revision(2), &plain(up(1, 1)));
    tables.apply(Revision(3), &plain(up(2, 1)));
    tables.apply(Revision(4), &numbered(1, 2, 1, vec![online(8, 1), online(9, 2)]));
    tables.apply(Revision(5), &plain(down(1, 2)));
    assert_eq!(tables.pending_callbacks().count(), 0, "the node may still resume");
    let epoch = limes_routing::Epoch(2);
    tables.apply(Revision(6), &plain(Event::SuspendedDropped { node: NodeId(1), epoch }));
    let callbacks: Vec<EdgeId> = tables.pending_callbacks().map(|callbacks| callbacks.edge).collect();
    assert_eq!(callbacks, [EdgeId(8)], "only 8 was announced to a service");
    let settled = Event::CallbackSettled { edge: EdgeId(8), incarnation: incarnation(4, 0) };
    tables.apply(Revision(7), &numbered(2, 3, 1, vec![settled]));
    assert_eq!(tables.pending_callbacks().count(), 0);
}
