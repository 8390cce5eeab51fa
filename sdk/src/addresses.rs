//! The addresses of the cluster's nodes, in the order in which a client tries them.

/// The addresses to try in turn: those of the application, and those that the cluster has named since.
#[derive(Debug)]
pub(crate) struct Addresses {
    given: Vec<String>,
    learned: Vec<String>,
    at: usize,
    /// The address that the client is leaving.
    leaving: Option<String>,
}

impl Addresses {
    /// Begins at a drawn address, so that many clients spread over the nodes. `given` is not empty.
    pub(crate) fn new(given: Vec<String>, draw: usize) -> Self {
        let at = draw % given.len().max(1);
        Addresses { given, learned: Vec::new(), at, leaving: None }
    }

    /// Replaces the learned addresses by those that a welcome or a go-away names; none named changes nothing.
    pub(crate) fn learn(&mut self, peers: Vec<String>) {
        if !peers.is_empty() {
            self.learned = peers.into_iter().filter(|peer| !self.given.contains(peer)).collect();
        }
    }

    /// Sets the address that the client is leaving: [`Addresses::next`] skips it while there is another.
    pub(crate) fn set_leaving(&mut self, leaving: Option<String>) {
        self.leaving = leaving;
    }

    /// The next address.
    pub(crate) fn next(&mut self) -> String {
        let count = self.given.len() + self.learned.len();
        for _ in 0..count {
            self.at = self.at.wrapping_add(1);
            let next = self.given.iter().chain(&self.learned).nth(self.at % count);
            if let Some(next) = next.filter(|next| self.leaving.as_ref() != Some(*next)) {
                return next.clone();
            }
        }
        self.given.first().or(self.learned.first()).cloned().unwrap_or_default()
    }

    /// Makes the last address the next one again.
    pub(crate) fn step_back(&mut self) {
        self.at = self.at.wrapping_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn addresses_are_tried_in_turn() {
        let mut addresses = Addresses::new(strings(&["a", "b"]), 7);
        assert_eq!([addresses.next(), addresses.next(), addresses.next()], ["a", "b", "a"]);
    }

    #[test]
    fn learned_addresses_are_tried_too() {
        let mut addresses = Addresses::new(strings(&["a", "b"]), 7);
        addresses.learn(strings(&["b", "c"]));
        let tried: BTreeSet<_> = (0..3).map(|_| addresses.next()).collect();
        assert_eq!(tried.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
        addresses.learn(Vec::new());
        assert!((0..3).any(|_| addresses.next() == "c"), "an empty list replaced the learned addresses");
    }

    #[test]
    fn a_step_back_repeats_the_last_address() {
        let mut addresses = Addresses::new(strings(&["a", "b"]), 7);
        let last = addresses.next();
        addresses.step_back();
        assert_eq!(addresses.next(), last);
    }

    #[test]
    fn clients_begin_at_different_nodes() {
        let starts: BTreeSet<_> =
            (0..4).map(|draw| Addresses::new(strings(&["a", "b"]), draw).next()).collect();
        assert_eq!(starts.len(), 2);
    }

    #[test]
    fn the_node_being_left_is_skipped_while_there_is_another() {
        let mut addresses = Addresses::new(strings(&["a", "b", "c"]), 0);
        addresses.set_leaving(Some("b".to_owned()));
        let tried: Vec<_> = (0..4).map(|_| addresses.next()).collect();
        assert_eq!(tried, ["c", "a", "c", "a"]);
        let mut alone = Addresses::new(strings(&["a"]), 0);
        alone.set_leaving(Some("a".to_owned()));
        assert_eq!((alone.next(), Addresses::new(Vec::new(), 0).next()), ("a".to_owned(), String::new()));
    }
}
