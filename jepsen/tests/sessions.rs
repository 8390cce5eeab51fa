//! The judge of sessions, judged: histories that are right pass, and each kind of wrong one is named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use limes_jepsen::bare::Incarnation;
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
