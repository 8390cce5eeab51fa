//! Detects nodes that do not answer pings. No IO.

use std::time::{Duration, Instant};

/// Heartbeats without an answer after which other nodes are preferred.
const SILENT_HEARTBEATS: u32 = 4;
/// Times `cluster.down_after` without an answer after which a link is closed. By then the cluster, if it has a quorum, has
/// declared the node down.
const DEAD_TIMES: u32 = 2;

/// What the silence of a node means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers.
    Alive,
    /// It has missed several pings: other nodes are preferred.
    Silent,
    /// It has been silent for this long: its links may be half-open, and what waits on them must end.
    Dead(Duration),
}

/// Judges the silence of other nodes once a heartbeat.
#[derive(Debug)]
pub(super) struct FailureDetector {
    heartbeat: Duration,
    down_after: Duration,
    last_beat: Instant,
    /// Since when this node has kept its own beat. A node that was suspended itself could not hear the others.
    regular_since: Instant,
}

impl FailureDetector {
    /// `heartbeat`: between pings; `down_after`: `cluster.down_after`.
    pub(super) fn new(heartbeat: Duration, down_after: Duration, now: Instant) -> Self {
        FailureDetector { heartbeat, down_after, last_beat: now, regular_since: now }
    }

    /// Notes a beat of this node.
    pub(super) fn beat(&mut self, now: Instant) {
        if now - self.last_beat > self.heartbeat * SILENT_HEARTBEATS {
            self.regular_since = now;
        }
        self.last_beat = now;
    }

    /// Judges a node by its last answer to a ping.
    pub(super) fn judge(&self, answered: Instant, now: Instant) -> Verdict {
        let silence = now - answered.max(self.regular_since).min(now);
        if silence > self.down_after * DEAD_TIMES {
            Verdict::Dead(silence)
        } else if silence > self.heartbeat * SILENT_HEARTBEATS {
            Verdict::Silent
        } else {
            Verdict::Alive
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(250);
    const DOWN_AFTER: Duration = Duration::from_secs(3);

    /// A detector that has kept its beat for a minute, and the time.
    fn regular() -> (FailureDetector, Instant) {
        let mut now = Instant::now();
        let mut detector = FailureDetector::new(HEARTBEAT, DOWN_AFTER, now);
        for _ in 0..240 {
            now += HEARTBEAT;
            detector.beat(now);
        }
        (detector, now)
    }

    #[test]
    fn a_node_that_misses_several_pings_is_silent() {
        let (detector, now) = regular();
        assert_eq!(detector.judge(now - HEARTBEAT * 4, now), Verdict::Alive);
        assert_eq!(detector.judge(now - HEARTBEAT * 5, now), Verdict::Silent);
    }

    #[test]
    fn a_node_that_is_silent_for_twice_down_after_is_dead() {
        let (detector, now) = regular();
        let silence = Duration::from_millis(6_001);
        assert_eq!(detector.judge(now - DOWN_AFTER * 2, now), Verdict::Silent);
        assert_eq!(detector.judge(now - silence, now), Verdict::Dead(silence));
    }

    #[test]
    fn a_node_that_was_suspended_itself_suspects_no_other() {
        let (mut detector, now) = regular();
        let resumed = now + Duration::from_secs(60);
        detector.beat(resumed);
        assert_eq!(detector.judge(now, resumed), Verdict::Alive);
    }

    #[test]
    fn an_answer_after_the_beat_is_no_silence() {
        let (detector, now) = regular();
        assert_eq!(detector.judge(now + HEARTBEAT, now), Verdict::Alive);
    }
}
