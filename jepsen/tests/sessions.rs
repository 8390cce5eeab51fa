//! The judges of sessions and of crashes: valid histories pass, and each kind of broken one is reported.
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

/// Asserts that exactly one guarantee is broken, this one.
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
fn valid_records_pass() {
    let fine = [
        probe(2, 3, Outcome::Answered(OLD)),
        // During the takeover either session may answer.
        probe(11, 13, Outcome::Answered(OLD)),
        probe(11, 13, Outcome::Answered(NEW)),
        probe(13, 14, Outcome::Answered(NEW)),
        probe(13, 14, Outcome::Failed("busy".into())),
        // Before the first welcome there may be no session.
        probe(0, 2, Outcome::NotFound),
    ];
    assert_eq!(broken(takeover(), fine.to_vec()), Vec::<String>::new());
}

#[test]
fn not_found_is_valid_only_if_the_newest_session_may_have_ended() {
    let not_found = vec![probe(20, 22, Outcome::NotFound)];
    let one = |ended| vec![session(0, Some((1, OLD)), ended)];
    assert_eq!(broken(one(Some(21)), not_found.clone()), Vec::<String>::new());
    breaks("R4", one(Some(23)), not_found.clone());
    breaks("R4", one(None), not_found.clone());
    // A newer session came and went, and with it the row of the older one.
    let mut gone = one(None);
    gone.push(session(10, Some((12, NEW)), Some(13)));
    gone[0].ended = Some(s(50));
    assert_eq!(broken(gone, not_found.clone()), Vec::<String>::new());
    // An attempt without a known result may have done the same.
    let mut unknown = one(None);
    unknown.push(session(21, None, None));
    assert_eq!(broken(unknown, not_found.clone()), Vec::<String>::new());
    let mut later = one(None);
    later.push(session(30, None, None));
    breaks("R4", later, not_found.clone());
    // The end of an older session does not explain it.
    breaks("R4", takeover(), not_found);
}

#[test]
fn an_answer_of_an_old_session_is_reported() {
    let answered = vec![probe(13, 14, Outcome::Answered(OLD))];
    breaks("R2", takeover(), answered.clone());
    // It is valid if the takeover notification may take two seconds.
    let record = Record { sessions: takeover(), probes: answered, over: s(1_000) };
    assert_eq!(record.judge(s(2)), Vec::<String>::new());
    assert_eq!(record.judge(s(1)).len(), 1);
}

#[test]
fn two_sessions_with_one_incarnation_are_reported() {
    let mut both = takeover();
    both[1].welcomed = both[0].welcomed;
    breaks("R1", both, vec![]);
}

#[test]
fn a_later_session_with_an_older_incarnation_is_reported() {
    let backwards = vec![session(0, Some((1, NEW)), Some(9)), session(10, Some((12, OLD)), Some(13))];
    breaks("R2", backwards, vec![]);
    // Two sessions requested at the same time may be welcomed in any order.
    let at_once = vec![session(0, Some((3, NEW)), None), session(1, Some((4, OLD)), Some(5))];
    assert_eq!(broken(at_once, vec![]), Vec::<String>::new());
}

#[test]
fn an_old_session_that_stays_open_is_reported() {
    let mut open = takeover();
    open[0].ended = None;
    breaks("R2", open.clone(), vec![]);
    open[0].ended = Some(s(500));
    breaks("R2", open.clone(), vec![]);
    // The recording ended before the session had to be closed.
    let short = Record { sessions: open, probes: vec![], over: s(20) };
    assert_eq!(short.judge(Duration::ZERO), Vec::<String>::new());
}

#[test]
fn edges_are_judged_independently() {
    let mut sessions = takeover();
    sessions[0].edge = 2;
    sessions[0].ended = None;
    let probes = vec![probe(13, 14, Outcome::Answered(NEW))];
    assert_eq!(broken(sessions, probes), Vec::<String>::new());
}

/// The acknowledgement of an edge's online at this revision.
fn acknowledged(edge: u64, revision: u64, asked: u64) -> Event {
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

fn killed() -> Event {
    Event::Killed { nodes: vec![0, 1, 2], at: 5 }
}

/// A crash after which nothing is missing.
fn valid_crash() -> Vec<Event> {
    vec![
        acknowledged(1, 3, 1),
        killed(),
        audited(0, 0, 4, 10, &[(1, 3)]),
        audited(1, 0, 5, 11, &[(1, 3)]),
        acknowledged(2, 6, 20),
        audited(0, 4, 9, 30, &[(2, 6), (9, 7)]),
        audited(1, 5, 6, 31, &[(2, 6)]),
    ]
}

#[test]
fn a_crash_without_loss_passes() {
    let verdict = History { events: valid_crash() }.judge();
    assert_eq!(verdict.broken, Vec::<String>::new());
    assert_eq!((verdict.acknowledged, verdict.kills, verdict.audits), (2, 1, 4));
}

#[test]
fn every_kind_of_loss_is_reported() {
    let breaks = |at: usize, event: Event, reported: &str| {
        let mut events = valid_crash();
        events[at] = event;
        let broken = History { events }.judge().broken;
        assert!(broken.iter().any(|line| line.contains(reported)), "{reported}: {broken:?}");
    };
    breaks(3, audited(1, 0, 5, 11, &[]), "node-2 has lost it");
    breaks(3, audited(1, 0, 5, 11, &[(8, 3)]), "different logs");
    breaks(5, audited(0, 4, 3, 30, &[]), "went back from 4 to 3");
    breaks(4, acknowledged(2, 4, 20), "had reached before the request");
    breaks(4, acknowledged(2, 3, 0), "the position of another event");
    breaks(4, acknowledged(1, 6, 20), "was allotted twice");
}

#[test]
fn a_history_without_audits_proves_nothing() {
    let broken = History { events: vec![acknowledged(1, 3, 1), killed()] }.judge().broken;
    assert!(!broken.is_empty(), "it passed");
}

#[test]
fn a_written_history_is_read_back() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let history = History { events: valid_crash() };
    history.write(file.path()).unwrap();
    assert_eq!(History::read(file.path()).unwrap(), history);
}
