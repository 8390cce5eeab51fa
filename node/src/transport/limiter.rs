//! SessionOwner may come in: connections by address, and handshakes at once. No IO.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use limes_wire::Code;
use limes_wire::frame::GoAway;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::config::Cap;
use crate::limits::descriptors::{DescriptorBudget, File};
use crate::router::message::Receiver;

/// Nothing understood of it yet.
const SILENT: u8 = 0;
/// It has said hello, and work is being done for it.
const SPOKE: u8 = 1;
/// It had to make room.
const SHED: u8 = 2;
/// It is welcome, or gone.
const OVER: u8 = 3;

/// The gate of one port.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    per_address: Cap,
    handshakes: usize,
    /// DescriptorBudget, if the gate shares them with others.
    files: Option<Arc<DescriptorBudget>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: HashMap<IpAddr, usize>,
    /// Newcomers in the order in which they came; some may have gone on since.
    queue: VecDeque<Arc<Newcomer>>,
    /// Connections that are neither welcome nor gone.
    greeting: usize,
}

/// A connection that is not welcome yet.
#[derive(Debug, Default)]
struct Newcomer {
    phase: AtomicU8,
    receiver: OnceLock<Receiver>,
    shed: Notify,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// The peer's address has as many connections as it may have.
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
    /// A gate that lets in so many.
    pub(crate) fn new(per_address: Cap, handshakes: usize) -> Arc<Self> {
        Arc::new(ConnectionLimiter { per_address, handshakes, files: None, state: Mutex::default() })
    }

    /// A gate behind which each connection takes one of the files that there are for several gates.
    pub(crate) fn with_files(per_address: Cap, handshakes: usize, files: Arc<DescriptorBudget>) -> Arc<Self> {
        // Two gates, each half full of handshakes: the silent are asked to go before the files run out.
        let handshakes = handshakes.min(files.room() / 4).max(1);
        Arc::new(ConnectionLimiter { per_address, handshakes, files: Some(files), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Lets a connection in, if need be at the cost of the one that has been silent for the longest.
    ///
    /// # Errors
    /// What is full.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Permit, Full> {
        let mut state = self.state();
        let counted = match self.per_address {
            Cap::Unlimited => None,
            Cap::At(most) => {
                let ip = network(ip);
                if state.addresses.get(&ip).is_some_and(|now| *now >= most) {
                    return Err(Full::Address(most));
                }
                Some(ip)
            }
        };
        state.tidy(self.handshakes);
        if state.greeting >= self.handshakes && !state.shed_one(self.handshakes) {
            return Err(Full::Handshakes(self.handshakes));
        }
        let file = match &self.files {
            None => None,
            Some(files) => match files.take() {
                Some(file) => Some(file),
                None => {
                    // The next one finds what this one leaves behind.
                    state.shed_one(self.handshakes);
                    return Err(Full::Files(files.room()));
                }
            },
        };
        if let Some(ip) = counted {
            *state.addresses.entry(ip).or_default() += 1;
        }
        state.greeting += 1;
        let newcomer = Arc::new(Newcomer::default());
        state.queue.push_back(newcomer.clone());
        Ok(Permit { gate: self.clone(), counted, newcomer: Some(newcomer), _file: file })
    }

    fn greeted(&self, newcomer: &Newcomer) {
        let mut state = self.state();
        if newcomer.phase.swap(OVER, Ordering::AcqRel) != SHED {
            state.greeting -= 1;
        }
    }
}

/// One customer's worth of addresses: of IPv6 a whole /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

impl State {
    /// Forgets who has gone on.
    fn tidy(&mut self, handshakes: usize) {
        let gone_on = |newcomer: &Arc<Newcomer>| newcomer.phase.load(Ordering::Acquire) != SILENT;
        while self.queue.front().is_some_and(gone_on) {
            self.queue.pop_front();
        }
        if self.queue.len() > handshakes.saturating_mul(2) {
            self.queue.retain(|newcomer| !gone_on(newcomer));
        }
    }

    /// Closes the connection that has been silent for the longest; false: all have spoken.
    fn shed_one(&mut self, handshakes: usize) -> bool {
        while let Some(newcomer) = self.queue.pop_front() {
            let shed =
                newcomer.phase.compare_exchange(SILENT, SHED, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if shed {
                self.greeting -= 1;
                newcomer.say_so(handshakes);
                return true;
            }
        }
        false
    }
}

impl Newcomer {
    fn say_so(&self, handshakes: usize) {
        self.shed.notify_one();
        if let Some(receiver) = self.receiver.get() {
            receiver.close(made_room(handshakes));
        }
    }
}

fn made_room(handshakes: usize) -> GoAway {
    let text = format!(
        "{handshakes} connections are being admitted, and this one has said nothing (limits.handshakes)"
    );
    GoAway::new(Code::LIMIT, text)
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Arc<ConnectionLimiter>,
    counted: Option<IpAddr>,
    newcomer: Option<Arc<Newcomer>>,
    _file: Option<File>,
}

impl Permit {
    /// Names the mailbox by which the connection can be told to make room.
    pub(crate) fn at(&self, receiver: &Receiver) {
        let Some(newcomer) = &self.newcomer else { return };
        let _ = newcomer.receiver.set(receiver.clone());
        if newcomer.phase.load(Ordering::Acquire) == SHED {
            newcomer.say_so(self.gate.handshakes);
        }
    }

    /// Waits until the connection must make room.
    ///
    /// # Cancel safety
    /// Dropping the future forgets nothing.
    pub(crate) async fn shed(&self) {
        match &self.newcomer {
            Some(newcomer) => newcomer.shed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// The connection has said who it is: it is not shed any more.
    pub(crate) fn identified(&self) {
        if let Some(newcomer) = &self.newcomer {
            let _ = newcomer.phase.compare_exchange(SILENT, SPOKE, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// The handshake is over.
    pub(crate) fn welcomed(&mut self) {
        if let Some(newcomer) = self.newcomer.take() {
            self.gate.greeted(&newcomer);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.welcomed();
        let Some(ip) = self.counted else { return };
        let mut state = self.gate.state();
        if let Some(now) = state.addresses.get_mut(&ip) {
            *now -= 1;
            if *now == 0 {
                state.addresses.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_shed(place: &Permit) -> bool {
        place.newcomer.as_ref().is_some_and(|newcomer| newcomer.phase.load(Ordering::Acquire) == SHED)
    }

    #[test]
    fn connections_of_an_address_are_counted_until_they_end() {
        let gate = ConnectionLimiter::new(Cap::At(2), 100);
        let mut first = gate.enter(ip(1)).unwrap();
        let _second = gate.enter(ip(1)).unwrap();
        assert_eq!(gate.enter(ip(1)).unwrap_err(), Full::Address(2));
        let _other = gate.enter(ip(2)).unwrap();
        first.welcomed();
        assert_eq!(gate.enter(ip(1)).unwrap_err(), Full::Address(2), "welcome, and still there");
        drop(first);
        assert!(gate.enter(ip(1)).is_ok());
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 2]);
        let _again = gate.enter(mapped).unwrap();
        assert_eq!(gate.enter(ip(2)).unwrap_err(), Full::Address(2), "the same address, written otherwise");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let gate = ConnectionLimiter::new(Cap::At(1), 100);
        let _one = gate.enter(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, 1])).unwrap();
        assert!(gate.enter(IpAddr::from([0x2001, 0xdb8, 0, 1, 9, 9, 9, 9])).is_err());
        assert!(gate.enter(IpAddr::from([0x2001, 0xdb8, 0, 2, 0, 0, 0, 1])).is_ok());
    }

    #[test]
    fn the_longest_silent_makes_room_and_who_has_spoken_does_not() {
        let gate = ConnectionLimiter::new(Cap::Unlimited, 3);
        let first = gate.enter(ip(1)).unwrap();
        first.identified();
        let second = gate.enter(ip(2)).unwrap();
        let third = gate.enter(ip(3)).unwrap();
        let fourth = gate.enter(ip(4)).unwrap();
        assert!(!is_shed(&first) && is_shed(&second) && !is_shed(&third));
        third.identified();
        fourth.identified();
        assert_eq!(gate.enter(ip(5)).unwrap_err(), Full::Handshakes(3));
        drop(second);
        assert!(gate.enter(ip(5)).is_err(), "it was counted out when it was shed");
        drop(third);
        let mut fifth = gate.enter(ip(5)).unwrap();
        fifth.welcomed();
        assert!(gate.enter(ip(6)).is_ok());
        drop((first, fourth, fifth));
        assert_eq!(gate.state().greeting, 0);
    }

    #[test]
    fn two_gates_share_the_files_that_there_are() {
        let files = DescriptorBudget::new(1_024);
        let gates = [(); 2].map(|()| ConnectionLimiter::with_files(Cap::Unlimited, 8_192, files.clone()));
        assert_eq!(gates[0].handshakes, files.room() / 4, "the silent make room before files run out");
        let mut places = Vec::new();
        while let Ok(mut place) = gates[places.len() % 2].enter(ip(1)) {
            place.welcomed();
            places.push(place);
        }
        assert_eq!(places.len(), files.room());
        let most = files.room();
        assert_eq!(gates[0].enter(ip(1)).unwrap_err(), Full::Files(most));
        assert_eq!(gates[1].enter(ip(2)).unwrap_err(), Full::Files(most));
        places.pop();
        assert!(gates[1].enter(ip(2)).is_ok());
    }

    #[test]
    fn a_flood_leaves_nothing_behind() {
        let gate = ConnectionLimiter::new(Cap::At(100_000), 10);
        let _stuck = gate.enter(ip(9)).unwrap();
        for _ in 0..10_000 {
            gate.enter(ip(1)).unwrap().identified();
        }
        let state = gate.state();
        assert!(state.queue.len() <= 21 && state.greeting == 1 && state.addresses.len() == 1, "{state:?}");
    }
}
