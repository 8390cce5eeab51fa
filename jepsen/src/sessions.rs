//! What the sessions of edges must look like to clients: R1, R2 and R4, judged on what was recorded.
//!
//! Times are what the clients' clocks showed: an event at the gateway lies somewhere between the begin and
//! the end that its client saw. Only what cannot have been right is called broken.

use std::time::Duration;

use crate::bare::Incarnation;

/// One attempt to have a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The edge, or whatever else is to be found by calls.
    pub edge: u64,
    /// When it was asked for.
    pub asked: Duration,
    /// When it was acknowledged, and as what; `None`: it may exist, or may have, or not.
    pub welcomed: Option<(Duration, Incarnation)>,
    /// When it began to end, as far as its client knows: it said good-bye, or saw its connection end.
    pub ended: Option<Duration>,
}

/// One call to an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The edge.
    pub edge: u64,
    /// When it began.
    pub began: Duration,
    /// When its end was seen.
    pub ended: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered by this session.
    Answered(Incarnation),
    /// The gateway said that there is nobody.
    Nobody,
    /// It failed for another reason.
    Failed(String),
}

/// All that clients saw.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Attempts to connect.
    pub sessions: Vec<Session>,
    /// Calls.
    pub probes: Vec<Probe>,
    /// When the recording was over.
    pub over: Duration,
}

/// How long an old session may be left open after a newer one was acknowledged. The gateway closes it at
/// once; this is for clients and machines that stand still.
const OLD_MAY_LINGER: Duration = Duration::from_secs(45);

impl Record {
    /// Each guarantee that did not hold, in one line. The gateway waits 50 ms for an old home to hear of a
    /// takeover; `notice` is how long that may take where processes stand still now and then: an old
    /// session's answer to a call that began within it is excused.
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
                    broken.push(format!("R1 edge {edge}: two sessions are incarnation {incarnation:?}"));
                }
                if newer.asked > *welcomed && newer_incarnation < incarnation {
                    broken.push(format!(
                        "R2 edge {edge}: a session asked for after {incarnation:?} was welcomed is \
                         {newer_incarnation:?}, which is older"
                    ));
                }
                let replaced_at = *newer_at + OLD_MAY_LINGER;
                if newer_incarnation > incarnation
                    && replaced_at < self.over
                    && older.ended.is_none_or(|ended| ended > replaced_at)
                {
                    broken.push(format!(
                        "R2 edge {edge}: {incarnation:?} was left open though {newer_incarnation:?} took over"
                    ));
                    break;
                }
            }
        }
        broken
    }

    fn judge_probe(&self, probe: &Probe, notice: Duration) -> Option<String> {
        let edge = probe.edge;
        let known = || self.welcomed().filter(|(session, at, _)| session.edge == edge && *at < probe.began);
        let (_, _, newest) = known().max_by_key(|(_, _, incarnation)| *incarnation)?;
        match &probe.outcome {
            Outcome::Answered(by) => {
                let heard = known().filter(|(_, at, _)| *at + notice <= probe.began);
                let (_, _, newest) = heard.max_by_key(|(_, _, incarnation)| *incarnation)?;
                (*by < newest).then(|| {
                    format!("R2 edge {edge}: a call that began after {newest:?} was welcomed was answered by {by:?}")
                })
            }
            Outcome::Nobody if !self.may_be_gone(probe, newest) => Some(format!(
                "R4 edge {edge}: a call was told that there is nobody, though {newest:?} was welcomed before it \
                 began and is still there"
            )),
            _ => None,
        }
    }

    /// Whether at some moment of the call there may have been no session: this one had begun to end, or
    /// a newer one, known or not, may have come and gone.
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
