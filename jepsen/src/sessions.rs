//! Judges the sessions of edges as clients recorded them: R1, R2 and R4.
//!
//! Times are those of the clients' clocks: an event at the gateway lies somewhere between the begin and the end that
//! its client saw. A guarantee counts as broken only if no order of events could explain what the clients saw.

use std::time::Duration;

use crate::bare::Incarnation;

/// One attempt to open a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The edge, or another target of calls.
    pub edge: u64,
    /// When the client asked for it.
    pub asked: Duration,
    /// When it was acknowledged, and as what; `None`: it is not known whether the session ever existed.
    pub welcomed: Option<(Duration, Incarnation)>,
    /// When it began to end, as far as its client knows: the client closed it, or saw its connection end.
    pub ended: Option<Duration>,
}

/// One call to an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The edge.
    pub edge: u64,
    /// When the call began.
    pub began: Duration,
    /// When the caller saw its end.
    pub ended: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The session with this incarnation answered.
    Answered(Incarnation),
    /// The gateway found no session.
    NotFound,
    /// The call failed for another reason.
    Failed(String),
}

/// Everything that the clients saw.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Attempts to connect.
    pub sessions: Vec<Session>,
    /// Calls.
    pub probes: Vec<Probe>,
    /// When the recording ended.
    pub over: Duration,
}

/// How long an old session may stay open after a newer one was acknowledged. The gateway closes it at once; this
/// allows for clients and machines that stall.
const OLD_MAY_LINGER: Duration = Duration::from_secs(45);

impl Record {
    /// Each guarantee that did not hold, in one line.
    ///
    /// The gateway waits 50 ms for an old home node to learn of a takeover; `notice` is how long that may take where
    /// processes stall now and then. An old session's answer to a call that began within it is allowed.
    pub fn judge(&self, notice: Duration) -> Vec<String> {
        let mut broken = self.judge_sessions();
        broken.extend(self.probes.iter().filter_map(|probe| self.judge_probe(probe, notice)));
        broken
    }

    fn welcomed(&self) -> impl Iterator<Item = (&Session, Duration, Incarnation)> {
        self.sessions.iter().filter_map(|session| {
            let (at, incarnation) = session.welcomed?;
            Some((session, at, incarnation))
        })
    }

    fn judge_sessions(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut all: Vec<_> = self.welcomed().collect();
        all.sort_by_key(|(session, at, _)| (session.edge, *at));
        for (at, (older, welcomed, incarnation)) in all.iter().enumerate() {
            for (newer, newer_at, newer_incarnation) in &all[at + 1..] {
                let edge = older.edge;
                if newer.edge != edge {
                    break;
                }
                if newer_incarnation == incarnation {
                    broken.push(format!("R1 edge {edge}: two sessions have incarnation {incarnation:?}"));
                }
                if newer.asked > *welcomed && newer_incarnation < incarnation {
                    broken.push(format!(
                        "R2 edge {edge}: a session requested after {incarnation:?} was welcomed is \
                         {newer_incarnation:?}, which is older"
                    ));
                }
                let replaced_at = *newer_at + OLD_MAY_LINGER;
                if newer_incarnation > incarnation
                    && replaced_at < self.over
                    && older.ended.is_none_or(|ended| ended > replaced_at)
                {
                    broken.push(format!(
                        "R2 edge {edge}: {incarnation:?} stayed open after {newer_incarnation:?} took over"
                    ));
                    break;
                }
            }
        }
        broken
    }

    fn judge_probe(&self, probe: &Probe, notice: Duration) -> Option<String> {
        let edge = probe.edge;
        let before = || self.welcomed().filter(|(session, at, _)| session.edge == edge && *at < probe.began);
        let (_, _, newest) = before().max_by_key(|(_, _, incarnation)| *incarnation)?;
        match &probe.outcome {
            Outcome::Answered(by) => {
                let announced = before().filter(|(_, at, _)| *at + notice <= probe.began);
                let (_, _, newest) = announced.max_by_key(|(_, _, incarnation)| *incarnation)?;
                (*by < newest).then(|| {
                    format!("R2 edge {edge}: {by:?} answered a call that began after {newest:?} was welcomed")
                })
            }
            Outcome::NotFound if !self.may_be_gone(probe, newest) => Some(format!(
                "R4 edge {edge}: a call found no session, though {newest:?} was welcomed before it began and has \
                 not ended"
            )),
            _ => None,
        }
    }

    /// Whether the edge may have had no session at some moment of the call: the newest one had begun to end, or a
    /// newer one, recorded or not, may have come and gone.
    fn may_be_gone(&self, probe: &Probe, newest: Incarnation) -> bool {
        self.sessions.iter().filter(|session| session.edge == probe.edge && session.asked < probe.ended).any(
            |session| match session.welcomed {
                Some((_, incarnation)) => {
                    incarnation >= newest && session.ended.is_some_and(|ended| ended < probe.ended)
                }
                None => true,
            },
        )
    }
}
