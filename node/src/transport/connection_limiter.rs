//! How many connections of a port may be open: by network, in handshakes, and by file descriptors. No IO.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::address::network;
use super::handshake::Handshake;
use super::permit::{Counts, Permit, State};
use crate::config::Cap;
use crate::limits::descriptors::DescriptorBudget;

/// Limits the connections of one port.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    per_address: Cap,
    /// The descriptors that the port shares with others, if it does.
    descriptors: Option<Arc<DescriptorBudget>>,
    counts: Arc<Counts>,
}

/// Why a connection gets no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// The peer's network has as many connections as it may have.
    #[error("{0} connections from one address are open (limits.per_address)")]
    Address(usize),
    /// As many handshakes as allowed are under way.
    #[error("{0} connections are being admitted (limits.handshakes)")]
    Handshakes(usize),
    /// The connections have used up the descriptors that the process may open.
    #[error("{0} connections are open, as many as the process's limit of files allows")]
    Files(usize),
}

impl ConnectionLimiter {
    /// A limit of connections per network and of handshakes at once.
    pub(crate) fn new(per_address: Cap, handshakes: usize) -> Arc<Self> {
        Arc::new(Self::limiter(per_address, handshakes, None))
    }

    /// As [`ConnectionLimiter::new`]; each connection also takes a descriptor of a budget shared with other ports.
    pub(crate) fn with_descriptors(
        per_address: Cap,
        handshakes: usize,
        descriptors: Arc<DescriptorBudget>,
    ) -> Arc<Self> {
        // Two ports, each half full of handshakes: silent connections are evicted before the descriptors run out.
        let handshakes = handshakes.min(descriptors.room() / 4).max(1);
        Arc::new(Self::limiter(per_address, handshakes, Some(descriptors)))
    }

    fn limiter(
        per_address: Cap,
        handshakes_max: usize,
        descriptors: Option<Arc<DescriptorBudget>>,
    ) -> ConnectionLimiter {
        let counts = Arc::new(Counts { handshakes_max, state: Mutex::default() });
        ConnectionLimiter { per_address, descriptors, counts }
    }

    /// Admits a connection. If too many handshakes are under way, the connection that has been silent for the longest is
    /// evicted.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admit(&self, ip: IpAddr) -> Result<Permit, Full> {
        let handshakes_max = self.counts.handshakes_max;
        let mut state = self.counts.state.lock();
        let counted = match self.per_address {
            Cap::Unlimited => None,
            Cap::At(most) => {
                let network = network(ip);
                if state.networks.get(&network).is_some_and(|now| *now >= most) {
                    return Err(Full::Address(most));
                }
                Some(network)
            }
        };
        state.tidy(handshakes_max);
        if state.handshakes >= handshakes_max && !state.evict_one(handshakes_max) {
            return Err(Full::Handshakes(handshakes_max));
        }
        let file = self.take_file(&mut state)?;
        if let Some(network) = counted {
            *state.networks.entry(network).or_default() += 1;
        }
        state.handshakes += 1;
        let handshake = Arc::new(Handshake::default());
        state.queue.push_back(handshake.clone());
        let counts = self.counts.clone();
        Ok(Permit { counts, network: counted, handshake: Some(handshake), _file: file })
    }

    fn take_file(&self, state: &mut State) -> Result<Option<crate::limits::descriptors::File>, Full> {
        let Some(descriptors) = &self.descriptors else { return Ok(None) };
        let file = descriptors.take();
        if file.is_none() {
            // The next connection gets the descriptor that the evicted one releases.
            state.evict_one(self.counts.handshakes_max);
            return Err(Full::Files(descriptors.room()));
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_evicted(permit: &Permit) -> bool {
        permit.handshake.as_ref().is_some_and(|handshake| handshake.is_evicted())
    }

    #[test]
    fn connections_of_an_address_are_counted_until_they_end() {
        let limiter = ConnectionLimiter::new(Cap::At(2), 100);
        let mut first = limiter.admit(ip(1)).unwrap();
        let _second = limiter.admit(ip(1)).unwrap();
        assert_eq!(limiter.admit(ip(1)).unwrap_err(), Full::Address(2));
        let _other = limiter.admit(ip(2)).unwrap();
        first.welcomed();
        assert_eq!(limiter.admit(ip(1)).unwrap_err(), Full::Address(2), "a welcomed connection still counts");
        drop(first);
        assert!(limiter.admit(ip(1)).is_ok());
    }

    #[test]
    fn an_ipv4_address_in_ipv6_notation_is_the_same_address() {
        let limiter = ConnectionLimiter::new(Cap::At(2), 100);
        let _first = limiter.admit(ip(2)).unwrap();
        let _second = limiter.admit(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 2])).unwrap();
        assert_eq!(limiter.admit(ip(2)).unwrap_err(), Full::Address(2));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let limiter = ConnectionLimiter::new(Cap::At(1), 100);
        let _one = limiter.admit(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, 1])).unwrap();
        assert!(limiter.admit(IpAddr::from([0x2001, 0xdb8, 0, 1, 9, 9, 9, 9])).is_err());
        assert!(limiter.admit(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])).is_ok());
    }

    #[test]
    fn the_longest_silent_connection_is_evicted() {
        let limiter = ConnectionLimiter::new(Cap::Unlimited, 3);
        let first = limiter.admit(ip(1)).unwrap();
        first.identified();
        let second = limiter.admit(ip(2)).unwrap();
        let third = limiter.admit(ip(3)).unwrap();
        let fourth = limiter.admit(ip(4)).unwrap();
        assert!(!is_evicted(&first) && is_evicted(&second) && !is_evicted(&third) && !is_evicted(&fourth));
    }

    #[test]
    fn identified_connections_count_until_they_are_welcomed() {
        let limiter = ConnectionLimiter::new(Cap::Unlimited, 3);
        let [first, second, third, fourth] = [1, 2, 3, 4].map(|last| {
            let permit = limiter.admit(ip(last)).unwrap();
            if last != 2 {
                permit.identified();
            }
            permit
        });
        assert!(is_evicted(&second));
        assert_eq!(limiter.admit(ip(5)).unwrap_err(), Full::Handshakes(3));
        drop(second);
        assert!(limiter.admit(ip(5)).is_err(), "an evicted connection stops counting when it is evicted");
        drop(third);
        let mut fifth = limiter.admit(ip(5)).unwrap();
        fifth.welcomed();
        assert!(limiter.admit(ip(6)).is_ok());
        drop((first, fourth, fifth));
        assert_eq!(limiter.counts.state.lock().handshakes, 0);
    }

    #[test]
    fn two_ports_share_the_descriptors() {
        let budget = DescriptorBudget::new(1_024);
        let limiters =
            [(); 2].map(|()| ConnectionLimiter::with_descriptors(Cap::Unlimited, 8_192, budget.clone()));
        let handshakes_max = limiters[0].counts.handshakes_max;
        assert_eq!(
            handshakes_max,
            budget.room() / 4,
            "silent connections end before the descriptors run out"
        );
        let mut permits = Vec::new();
        while let Ok(mut permit) = limiters[permits.len() % 2].admit(ip(1)) {
            permit.welcomed();
            permits.push(permit);
        }
        assert_eq!(permits.len(), budget.room());
        let most = budget.room();
        assert_eq!(limiters[0].admit(ip(1)).unwrap_err(), Full::Files(most));
        assert_eq!(limiters[1].admit(ip(2)).unwrap_err(), Full::Files(most));
        permits.pop();
        assert!(limiters[1].admit(ip(2)).is_ok());
    }

    #[test]
    fn a_flood_leaves_nothing_behind() {
        let limiter = ConnectionLimiter::new(Cap::At(100_000), 10);
        let _stuck = limiter.admit(ip(9)).unwrap();
        for _ in 0..10_000 {
            limiter.admit(ip(1)).unwrap().identified();
        }
        let state = limiter.counts.state.lock();
        assert!(state.queue.len() <= 21 && state.handshakes == 1 && state.networks.len() == 1, "{state:?}");
    }
}
