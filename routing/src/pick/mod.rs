//! Selects one of the sessions that offer a method or topic: first a service, then one of its sessions.
//!
//! Each policy is a file with a pure function of the services and a key, the same on every node. The key distributes the
//! load: an edge's id, the hash of an address ([`source`]), or a random number.

mod hash;
mod modulo;
mod rendezvous;
pub mod source;

use crate::id::{NodeId, ServiceId};
pub use hash::mix;

/// How a service is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// The key modulo the number of services.
    #[default]
    Modulo,
    /// The service with the highest hash of key and service: when a service comes or goes, only its share of keys moves.
    Rendezvous,
}

/// A selection policy as the setting `exchange.hashby` names it: a [`Policy`] and the source of its key.
///
/// A new policy is a file beside this one, a variant here, and its rows in [`HashBy::KEYWORDS`], [`HashBy::policy`],
/// [`HashBy::key_source`] and the golden choices of the tests below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashBy {
    /// The edge's id, modulo the number of services.
    #[default]
    EdgeId,
    /// The edge's address, modulo the number of services.
    SrcIp,
    /// At random.
    Random,
    /// Rendezvous hashing of the edge's id: few edges move when a service comes or goes.
    Rendezvous,
}

/// The source of a policy's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySource {
    /// The caller's id.
    Id,
    /// The caller's address, by a function of [`source`].
    Address,
    /// A random number.
    Random,
}

impl HashBy {
    /// The keyword of each policy.
    pub const KEYWORDS: [(&str, HashBy); 4] = [
        ("edgeid", HashBy::EdgeId),
        ("srcip", HashBy::SrcIp),
        ("random", HashBy::Random),
        ("rendezvous", HashBy::Rendezvous),
    ];
    /// The help text of the setting.
    pub const HELP: &str = "edgeid, srcip, random or rendezvous.";

    /// How the service is selected.
    pub fn policy(self) -> Policy {
        match self {
            HashBy::EdgeId | HashBy::SrcIp | HashBy::Random => Policy::Modulo,
            HashBy::Rendezvous => Policy::Rendezvous,
        }
    }

    /// The source of the key.
    pub fn key_source(self) -> KeySource {
        match self {
            HashBy::EdgeId | HashBy::Rendezvous => KeySource::Id,
            HashBy::SrcIp => KeySource::Address,
            HashBy::Random => KeySource::Random,
        }
    }
}

/// A session that may be selected.
pub trait Candidate {
    /// The service of the session.
    fn service(&self) -> ServiceId;
    /// The node of the session.
    fn node(&self) -> NodeId;
}

/// The parameters of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// How the service is selected.
    pub policy: Policy,
    /// The key of the policy.
    pub key: u64,
    /// The selecting node.
    pub local: NodeId,
    /// Whether services with a session on `local` are preferred.
    pub near: bool,
}

/// Selects among candidates that are ordered by service; `usable` tells which can be reached. Services are counted, not
/// sessions. Of the selected service, a session on the local node is preferred; among several, the key decides.
pub fn pick<C: Candidate>(candidates: &[C], choice: Choice, usable: impl Fn(&C) -> bool) -> Option<&C> {
    if choice.near
        && let Some(here) = among(candidates, choice, |c| c.node() == choice.local && usable(c))
    {
        return Some(here);
    }
    among(candidates, choice, usable)
}

fn among<C: Candidate>(candidates: &[C], choice: Choice, usable: impl Fn(&C) -> bool) -> Option<&C> {
    let Choice { policy, key, local, .. } = choice;
    let usable = |candidate: &&C| usable(candidate);
    let services = || services(candidates.iter().filter(usable));
    let service = match policy {
        Policy::Modulo => modulo::choose(services, key),
        Policy::Rendezvous => rendezvous::choose(services(), key),
    }?;
    let sessions = || candidates.iter().filter(usable).filter(|c| c.service() == service);
    let here = || sessions().filter(|c| c.node() == local);
    match here().count() as u64 {
        // `usable` may change at any time: there may be no session left.
        0 => sessions().nth(mix(key).checked_rem(sessions().count() as u64)? as usize),
        count => here().nth((mix(key) % count) as usize),
    }
}

/// The distinct services of candidates that are ordered by service.
fn services<'a, C: Candidate + 'a>(
    candidates: impl Iterator<Item = &'a C>,
) -> impl Iterator<Item = ServiceId> {
    let mut last = None;
    candidates.map(Candidate::service).filter(move |service| last.replace(*service) != Some(*service))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a candidate can be reached may change during the selection.
    #[test]
    fn help_text_lists_every_keyword() {
        let listed: Vec<_> = HashBy::HELP.trim_end_matches('.').split([',', ' ']).collect();
        for (keyword, _) in HashBy::KEYWORDS {
            assert!(listed.contains(&keyword), "{keyword} is missing from {:?}", HashBy::HELP);
        }
    }

    #[test]
    fn selection_survives_candidates_that_become_unusable() {
        let one = [At(1, 1)];
        for policy in [Policy::Modulo, Policy::Rendezvous] {
            for near in [false, true] {
                let choice = Choice { policy, key: 7, local: NodeId(2), near };
                for yes in 0..12 {
                    let asked = std::cell::Cell::new(0);
                    let usable = |_: &At| {
                        asked.set(asked.get() + 1);
                        asked.get() <= yes
                    };
                    let _ = pick(&one, choice, usable);
                }
            }
        }
    }

    #[derive(Debug, PartialEq)]
    struct At(u64, u64);

    impl Candidate for At {
        fn service(&self) -> ServiceId {
            ServiceId(self.0)
        }

        fn node(&self) -> NodeId {
            NodeId(self.1)
        }
    }

    fn choice(policy: Policy, key: u64, local: u64) -> Choice {
        Choice { policy, key, local: NodeId(local), near: false }
    }

    const POLICIES: [Policy; 2] = [Policy::Modulo, Policy::Rendezvous];

    #[test]
    fn services_are_counted_instead_of_sessions() {
        let candidates = [At(1, 1), At(1, 2), At(1, 3), At(2, 3)];
        let chosen: Vec<u64> = (0..4)
            .filter_map(|key| pick(&candidates, choice(Policy::Modulo, key, 9), |_| true))
            .map(|c| c.0)
            .collect();
        assert_eq!(chosen, [1, 2, 1, 2]);
    }

    #[test]
    fn local_session_of_the_service_is_preferred_and_unreachable_ones_are_skipped() {
        let candidates = [At(1, 1), At(1, 2), At(1, 3)];
        for policy in POLICIES {
            for key in 0..20 {
                let choice = choice(policy, key, 2);
                assert_eq!(pick(&candidates, choice, |_| true).map(|c| c.1), Some(2));
                let other = pick(&candidates, choice, |c| c.1 != 2);
                assert!(other.is_some_and(|c| c.1 != 2));
            }
            assert!(pick(&candidates, choice(policy, 1, 2), |_| false).is_none());
        }
    }

    #[test]
    fn near_prefers_services_with_a_session_on_the_local_node() {
        let candidates = [At(1, 1), At(2, 2), At(3, 2), At(4, 3)];
        for policy in POLICIES {
            let mut seen = std::collections::BTreeSet::new();
            for key in 0..40 {
                let near = Choice { near: true, ..choice(policy, key, 2) };
                let chosen = pick(&candidates, near, |_| true).unwrap();
                assert_eq!(chosen.1, 2);
                seen.insert(chosen.0);
                let far = pick(&candidates, near, |c| c.1 != 2).unwrap();
                assert_ne!(far.1, 2, "no local session is usable");
            }
            assert_eq!(seen.len(), 2, "the local services share the keys");
        }
    }

    /// All nodes must select alike, also those of another release.
    #[test]
    fn selections_do_not_change_between_releases() {
        let all: Vec<At> = (1..=5).flat_map(|s| [At(s, s), At(s, s + 1)]).collect();
        let chosen = |policy| -> Vec<(u64, u64)> {
            let key = |n: u64| 1_000_000_000_001 + n;
            (0..8)
                .filter_map(|n| pick(&all, choice(policy, key(n), 9), |_| true))
                .map(|c| (c.0, c.1))
                .collect()
        };
        assert_eq!(chosen(Policy::Modulo), MODULO);
        assert_eq!(chosen(Policy::Rendezvous), RENDEZVOUS);
    }

    const MODULO: [(u64, u64); 8] = [(2, 3), (3, 3), (4, 5), (5, 6), (1, 1), (2, 3), (3, 4), (4, 4)];
    const RENDEZVOUS: [(u64, u64); 8] = [(4, 5), (5, 5), (1, 2), (3, 4), (5, 5), (2, 3), (4, 5), (5, 5)];

    #[test]
    fn rendezvous_moves_only_the_keys_of_the_service_that_left() {
        let all: Vec<At> = (1..=10).map(|s| At(s, 1)).collect();
        let mut moved = 0;
        for key in 0..1_000 {
            let choice = choice(Policy::Rendezvous, key, 1);
            let before = pick(&all, choice, |_| true).unwrap().0;
            let after = pick(&all, choice, |c| c.0 != 4).unwrap().0;
            if before == 4 {
                moved += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert!((50..200).contains(&moved), "{moved} of 1000 moved");
    }
}
