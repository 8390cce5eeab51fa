//! Choosing one of several sessions that offer a method or topic: a service first, then its session.

use crate::id::{NodeId, ServiceId};

/// How a service is chosen among those that can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// The key (edge id, or a hash of the source address) modulo the number of services.
    #[default]
    Modulo,
    /// The highest hash of key and service: when a service comes or goes, only its share moves.
    Rendezvous,
}

/// A session that could be chosen.
pub trait Candidate {
    /// Its service.
    fn service(&self) -> ServiceId;
    /// The node that holds it.
    fn node(&self) -> NodeId;
}

/// Chooses from candidates ordered by service; `usable` says which can be reached. Services are
/// counted, not sessions; of the chosen one's sessions one on `local` comes first, else the key
/// decides.
pub fn pick<C: Candidate>(
    candidates: &[C],
    policy: Policy,
    key: u64,
    local: NodeId,
    usable: impl Fn(&C) -> bool,
) -> Option<&C> {
    let usable = |candidate: &&C| usable(candidate);
    let service = match policy {
        Policy::Modulo => {
            let count = services(candidates.iter().filter(usable)).count() as u64;
            services(candidates.iter().filter(usable)).nth(key.checked_rem(count)? as usize)?
        }
        Policy::Rendezvous => services(candidates.iter().filter(usable))
            .max_by_key(|service| (mix(key ^ mix(service.0)), *service))?,
    };
    let sessions = || candidates.iter().filter(usable).filter(|c| c.service() == service);
    let here = || sessions().filter(|c| c.node() == local);
    match here().count() as u64 {
        0 => sessions().nth((mix(key) % sessions().count() as u64) as usize),
        count => here().nth((mix(key) % count) as usize),
    }
}

/// Distinct services of candidates that are ordered by service.
fn services<'a, C: Candidate + 'a>(
    candidates: impl Iterator<Item = &'a C>,
) -> impl Iterator<Item = ServiceId> {
    let mut last = None;
    candidates.map(Candidate::service).filter(move |service| last.replace(*service) != Some(*service))
}

/// A 64-bit finalizer (SplitMix64; Steele, Lea and Flood 2014).
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(u64, u64);

    impl Candidate for At {
        fn service(&self) -> ServiceId {
            ServiceId(self.0)
        }

        fn node(&self) -> NodeId {
            NodeId(self.1)
        }
    }

    #[test]
    fn services_are_counted_and_not_their_sessions() {
        let candidates = [At(1, 1), At(1, 2), At(1, 3), At(2, 3)];
        let chosen: Vec<u64> = (0..4)
            .filter_map(|key| pick(&candidates, Policy::Modulo, key, NodeId(9), |_| true))
            .map(|c| c.0)
            .collect();
        assert_eq!(chosen, [1, 2, 1, 2]);
    }

    #[test]
    fn the_same_node_comes_first_and_the_unreachable_never() {
        let candidates = [At(1, 1), At(1, 2), At(1, 3)];
        for key in 0..20 {
            let here = pick(&candidates, Policy::Modulo, key, NodeId(2), |_| true);
            assert_eq!(here.map(|c| c.1), Some(2));
            let other = pick(&candidates, Policy::Modulo, key, NodeId(2), |c| c.1 != 2);
            assert!(other.is_some_and(|c| c.1 != 2));
        }
        assert!(pick(&candidates, Policy::Modulo, 1, NodeId(2), |_| false).is_none());
    }

    #[test]
    fn rendezvous_moves_only_the_share_of_the_one_that_left() {
        let all: Vec<At> = (1..=10).map(|s| At(s, 1)).collect();
        let mut moved = 0;
        for key in 0..1_000 {
            let before = pick(&all, Policy::Rendezvous, key, NodeId(1), |_| true).unwrap().0;
            let after = pick(&all, Policy::Rendezvous, key, NodeId(1), |c| c.0 != 4).unwrap().0;
            if before == 4 {
                moved += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert!((50..200).contains(&moved), "{moved} of 1000 moved");
    }
}
