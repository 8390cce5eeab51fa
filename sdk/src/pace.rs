//! Where to connect next, when, and whether at all. No IO, no clock, no chance: draws are given.

use std::time::Duration;

use limes_wire::Code;

/// The first pause is drawn up to this; it doubles from there (PROTOCOL 3.6).
const FIRST: Duration = Duration::from_millis(50);

/// Pauses between attempts, with full jitter (Brooker 2015): each is drawn from nothing to a bound,
/// which doubles.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    bound: Duration,
    max: Duration,
}

impl Backoff {
    /// Begins anew; no pause is longer than `max`.
    pub(crate) fn new(max: Duration) -> Self {
        Backoff { bound: FIRST.min(max), max }
    }

    /// The next pause, for a draw from 0 to 1.
    pub(crate) fn next(&mut self, draw: f64) -> Duration {
        let pause = self.bound.mul_f64(draw.clamp(0.0, 1.0));
        self.bound = self.bound.saturating_mul(2).min(self.max);
        pause
    }
}

/// The addresses to try, in turn: those given, and those that the cluster has named since.
#[derive(Debug)]
pub(crate) struct Addresses {
    given: Vec<String>,
    learned: Vec<String>,
    at: usize,
    /// Whom the client is leaving.
    left: Option<String>,
}

impl Addresses {
    /// Begins at a drawn one, so that many clients spread over the nodes.
    pub(crate) fn new(given: Vec<String>, draw: usize) -> Self {
        let at = draw % given.len().max(1);
        Addresses { given, learned: Vec::new(), at, left: None }
    }

    /// Notes what a welcome or a go-away has named; nothing named changes nothing.
    pub(crate) fn learn(&mut self, peers: Vec<String>) {
        if !peers.is_empty() {
            self.learned = peers.into_iter().filter(|peer| !self.given.contains(peer)).collect();
        }
    }

    /// Whom the client is leaving, if anybody: passed over while there is another.
    pub(crate) fn leave(&mut self, left: Option<String>) {
        self.left = left;
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> String {
        let count = self.given.len() + self.learned.len();
        for _ in 0..count {
            self.at = self.at.wrapping_add(1);
            let next = self.given.iter().chain(&self.learned).nth(self.at % count);
            if let Some(next) = next.filter(|next| self.left.as_ref() != Some(*next)) {
                return next.clone();
            }
        }
        self.given.first().or(self.learned.first()).cloned().unwrap_or_default()
    }

    /// The last one is to be the next one again.
    pub(crate) fn stay(&mut self) {
        self.at = self.at.wrapping_sub(1);
    }
}

/// What a go-away asks of a client (PROTOCOL 3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Not to come back.
    StayAway,
    /// Another connection has its place.
    MakeRoom,
    /// To open a session elsewhere first, and to leave then.
    MoveFirst,
    /// To come back after a pause.
    ComeBack,
}

impl Asked {
    /// Of a client that was not welcomed.
    pub(crate) fn before_welcome(code: Code) -> Self {
        match code {
            Code::AUTH | Code::VERSION | Code::REFUSED | Code::PROTOCOL | Code::TOO_LARGE => Asked::StayAway,
            _ => Asked::ComeBack,
        }
    }

    /// Of a client with an open session.
    pub(crate) fn after_welcome(code: Code) -> Self {
        match code {
            Code::KICKED => Asked::StayAway,
            Code::REPLACED => Asked::MakeRoom,
            Code::DRAINING | Code::ISOLATED => Asked::MoveFirst,
            _ => Asked::ComeBack,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_drawn_from_nothing() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(300));
        let bounds: Vec<_> = (0..5).map(|_| backoff.next(1.0)).collect();
        assert_eq!(bounds, [ms(50), ms(100), ms(200), ms(300), ms(300)]);
        let mut backoff = Backoff::new(ms(300));
        assert_eq!((backoff.next(0.0), backoff.next(0.5), backoff.next(0.25)), (ms(0), ms(50), ms(50)));
        assert_eq!(Backoff::new(ms(10)).next(1.0), ms(10), "never longer than was asked");
        let mut long = Backoff::new(Duration::MAX);
        for _ in 0..100 {
            long.next(0.5);
        }
    }

    #[test]
    fn addresses_are_tried_in_turn_and_what_is_learned_comes_along() {
        let given = || vec!["a".to_owned(), "b".to_owned()];
        let mut addresses = Addresses::new(given(), 7);
        assert_eq!([addresses.next(), addresses.next(), addresses.next()], ["a", "b", "a"]);
        addresses.learn(vec!["b".into(), "c".into()]);
        let tried: std::collections::BTreeSet<_> = (0..3).map(|_| addresses.next()).collect();
        assert_eq!(tried.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        addresses.learn(Vec::new());
        assert!((0..3).any(|_| addresses.next() == "c"), "nothing named changes nothing");
        let last = addresses.next();
        addresses.stay();
        assert_eq!(addresses.next(), last);
        let starts: std::collections::BTreeSet<_> =
            (0..4).map(|draw| Addresses::new(given(), draw).next()).collect();
        assert_eq!(starts.len(), 2, "clients begin at different nodes");
    }

    /// The table of PROTOCOL 3.6.
    #[test]
    fn a_go_away_is_understood_as_documented() {
        for (code, _) in Code::ALL.iter().copied() {
            let for_good =
                matches!(code, Code::AUTH | Code::VERSION | Code::REFUSED | Code::PROTOCOL | Code::TOO_LARGE);
            assert_eq!(Asked::before_welcome(code) == Asked::StayAway, for_good, "{code}");
        }
        assert_eq!(Asked::after_welcome(Code::PROTOCOL), Asked::ComeBack);
        assert_eq!(Asked::after_welcome(Code::KICKED), Asked::StayAway);
        assert_eq!(Asked::after_welcome(Code::REPLACED), Asked::MakeRoom);
        assert_eq!(Asked::after_welcome(Code::DRAINING), Asked::MoveFirst);
        assert_eq!(Asked::after_welcome(Code(7_777)), Asked::ComeBack);
    }

    #[test]
    fn the_node_that_is_left_is_passed_over_while_there_is_another() {
        let own = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let mut known = Addresses::new(own(&["a", "b", "c"]), 0);
        known.leave(Some("b".to_owned()));
        let tried: Vec<_> = (0..4).map(|_| known.next()).collect();
        assert_eq!(tried, ["c", "a", "c", "a"]);
        let mut alone = Addresses::new(own(&["a"]), 0);
        alone.leave(Some("a".to_owned()));
        assert_eq!((alone.next(), Addresses::new(Vec::new(), 0).next()), ("a".to_owned(), String::new()));
    }
}
