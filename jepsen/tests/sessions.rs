//! The judges of sessions and of crashes, judged: histories that are right pass, and each kind of wrong one is named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use limes_jepsen::bare::Incarnation;
use limes_jepsen::crashes::{Event, History, Seen};
use limes_jepsen::sessions::{Outcome, Probe, Record, Session};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn session(asked: u64, welcomed: Option<(u64, Incarnation)>, ended: Option<u64>) -> Session {
    let welcomed = welcomed.map(|(at, incarnation)| (s(at), incarnation));
    Session { edge: 1, asked: s(asked), welcomed, ended: ended.map(s) }
}

fn probe(began: u64, ended: u64, outcome: Outcome) -> Probe {
    Probe { edge: 1, began: s(began), ended: s(ended), outcome }
}

fn broken(sessions: Vec<Session>, probes: Vec<Probe>) -> Vec<String> {
    Record { sessions, probes, over: s(1_000) }.judge(Duration::ZERO)
}

/// Exactly one rule is broken, and it is this one.
fn breaks(rule: &str, sessions: Vec<Session>, probes: Vec<Probe>) {
    let broken = broken(sessions, probes);
    assert!(broken.len() == 1 && broken[0].starts_with(rule), "{rule}: {broken:?}");
}

const OLD: Incarnation = (5, 0);
const NEW: Incarnation = (9, 2);

fn takeover() -> Vec<Session> {
    vec![session(0, Some((1, OLD)), Some(11)), session(10, Some((12, NEW)), None)]
}

#[test]
fn what_is_right_passes() {
    let fine = [
        probe(2, 3, Outcome::Answered(OLD)),
        // While the takeover is under way either may answer.
        probe(11, 13, Outcome::Answered(OLD)),
        probe(11, 13, Outcome::Answered(NEW)),
        probe(13, 14, Outcome::Answered(NEW)),
        probe(13, 14, Outcome::Failed("busy".into())),
        // Before the first welcome there may be nobody.
        probe(0, 2, Outcome::Nobody),
    ];
    assert_eq!(broken(takeover(), fine.to_vec()), Vec::<String>::new());
}

#[test]
fn nobody_is_right_while_the_newest_session_may_have_ended() {
    let nobody = vec![probe(20, 22, Outcome::Nobody)];
    let one = |ended| vec![session(0, Some((1, OLD)), ended)];
    assert_eq!(broken(one(Some(21)), nobody.clone()), Vec::<String>::new());
    breaks("R4", one(Some(23)), nobody.clone());
    breaks("R4", one(None), nobody.clone());
    // A newer one came and went, and with it the older one's row.
    let mut gone = one(None);
    gone.push(session(10, Some((12, NEW)), Some(13)));
    gone[0].ended = Some(s(50));
    assert_eq!(broken(gone, nobody.clone()), Vec::<String>::new());
    // An attempt of which nothing is known may have done so.
    let mut unknown = one(None);
    unknown.push(session(21, None, None));
    assert_eq!(broken(unknown, nobody.clone()), Vec::<String>::new());
    let mut later = one(None);
    later.push(session(30, None, None));
    breaks("R4", later, nobody.clone());
    // An older session's end is no excuse.
    breaks("R4", takeover(), nobody);
}

#[test]
fn an_answer_of_an_old_session_is_named() {
    let answered = vec![probe(13, 14, Outcome::Answered(OLD))];
    breaks("R2", takeover(), answered.clone());
    // Where the notice of the takeover may take two seconds it was in time.
    let record = Record { sessions: takeover(), probes: answered, over: s(1_000) };
    assert_eq!(record.judge(s(2)), Vec::<String>::new());
    assert_eq!(record.judge(s(1)).len(), 1);
}

#[test]
fn two_sessions_of_one_incarnation_are_named() {
    let mut both = takeover();
    both[1].welcomed = both[0].welcomed;
    breaks("R1", both, vec![]);
}

#[test]
fn a_newcomer_that_is_older_is_named() {
    let backwards = vec![session(0, Some((1, NEW)), Some(9)), session(10, Some((12, OLD)), Some(13))];
    breaks("R2", backwards, vec![]);
    // Two that were asked for at once may be welcomed in any order.
    let at_once = vec![session(0, Some((3, NEW)), None), session(1, Some((4, OLD)), Some(5))];
    assert_eq!(broken(at_once, vec![]), Vec::<String>::new());
}

#[test]
fn an_old_session_that_is_left_open_is_named() {
    let mut open = takeover();
    open[0].ended = None;
    breaks("R2", open.clone(), vec![]);
    open[0].ended = Some(s(500));
    breaks("R2", open.clone(), vec![]);
    // The recording ended before anybody could say so.
    let short = Record { sessions: open, probes: vec![], over: s(20) };
    assert_eq!(short.judge(Duration::ZERO), Vec::<String>::new());
}

#[test]
fn edges_are_judged_one_by_one() {
    let mut sessions = takeover();
    sessions[0].edge = 2;
    sessions[0].ended = None;
    let probes = vec![probe(13, 14, Outcome::Answered(NEW))];
    assert_eq!(broken(sessions, probes), Vec::<String>::new());
}

/// An edge that was told of an event that lies at this revision.
fn told(edge: u64, revision: u64, asked: u64) -> Event {
    let incarnation = (revision, 0);
    Event::Acknowledged { edge, incarnation, node: 0, fresh: true, asked, at: asked + 1 }
}

fn audited(node: usize, after: u64, to: u64, at: u64, held: &[(u64, u64)]) -> Event {
    let seen = held.iter().map(|(edge, revision)| Seen {
        revision: *revision,
        edge: *edge,
        incarnation: (*revision, 0),
    });
    Event::Audited { node, after, to, at, seen: seen.collect() }
}

#[test]
fn what_a_crash_has_cost_is_named() {
    let killed = || Event::Killed { nodes: vec![0, 1, 2], at: 5 };
    let fine = vec![
        told(1, 3, 1),
        killed(),
        audited(0, 0, 4, 10, &[(1, 3)]),
        audited(1, 0, 5, 11, &[(1, 3)]),
        told(2, 6, 20),
        audited(0, 4, 9, 30, &[(2, 6), (9, 7)]),
        audited(1, 5, 6, 31, &[(2, 6)]),
    ];
    let judge = |events: &[Event]| History { events: events.to_vec() }.judge();
    let verdict = judge(&fine);
    assert_eq!(verdict.broken, Vec::<String>::new());
    assert_eq!((verdict.acknowledged, verdict.kills, verdict.audits), (2, 1, 4));
    let breaks = |at: usize, event: Event, says: &str| {
        let mut events = fine.clone();
        events[at] = event;
        let broken = judge(&events).broken;
        assert!(broken.iter().any(|line| line.contains(says)), "{says}: {broken:?}");
    };
    breaks(3, audited(1, 0, 5, 11, &[]), "node-2 has lost it");
    breaks(3, audited(1, 0, 5, 11, &[(8, 3)]), "different logs");
    breaks(5, audited(0, 4, 3, 30, &[]), "went back from 4 to 3");
    breaks(4, told(2, 4, 20), "had something before");
    breaks(4, told(2, 3, 0), "in the place of another");
    breaks(4, told(1, 6, 20), "was allotted twice");
    assert!(!judge(&[told(1, 3, 1), killed()]).broken.is_empty(), "nobody was asked");
    let file = tempfile::NamedTempFile::new().unwrap();
    let history = History { events: fine };
    history.write(file.path()).unwrap();
    assert_eq!(History::read(file.path()).unwrap(), history);
}
