//! The permit of one connection, and the counts behind it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::handshake::Handshake;
use crate::limits::descriptors::File;
use crate::router::message::Receiver;

/// What a connection limiter counts.
#[derive(Debug)]
pub(super) struct Counts {
    /// Handshakes at once.
    pub(super) handshakes_max: usize,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Connections of each network.
    pub(super) networks: HashMap<IpAddr, usize>,
    /// Handshakes by age; some may have ended since.
    pub(super) queue: VecDeque<Arc<Handshake>>,
    /// Connections that are neither welcomed, evicted nor gone.
    pub(super) handshakes: usize,
}

impl State {
    /// Removes handshakes that cannot be evicted from the queue.
    pub(super) fn tidy(&mut self, handshakes_max: usize) {
        while self.queue.front().is_some_and(|handshake| !handshake.is_silent()) {
            self.queue.pop_front();
        }
        if self.queue.len() > handshakes_max.saturating_mul(2) {
            self.queue.retain(|handshake| handshake.is_silent());
        }
    }

    /// Evicts the connection whose peer has been silent for the longest; false: all peers have identified themselves.
    pub(super) fn evict_one(&mut self, handshakes_max: usize) -> bool {
        while let Some(handshake) = self.queue.pop_front() {
            if handshake.evict(handshakes_max) {
                self.handshakes -= 1;
                return true;
            }
        }
        false
    }
}

/// The right of one connection to be open. Dropping it releases what the connection is counted for.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(super) counts: Arc<Counts>,
    /// The network that the connection is counted for, if networks are limited.
    pub(super) network: Option<IpAddr>,
    /// Until the peer is welcomed.
    pub(super) handshake: Option<Arc<Handshake>>,
    pub(super) _file: Option<File>,
}

impl Permit {
    /// Sets the mailbox of the connection's task, which gets the command to close if the connection is evicted.
    pub(crate) fn set_receiver(&self, receiver: &Receiver) {
        if let Some(handshake) = &self.handshake {
            handshake.set_receiver(receiver, self.counts.handshakes_max);
        }
    }

    /// Waits until the connection is evicted; pending for ever once the peer is welcomed.
    ///
    /// # Cancel safety
    /// Cancel safe: an eviction that is not observed yet is reported by the next call.
    pub(crate) async fn evicted(&self) {
        match &self.handshake {
            Some(handshake) => handshake.evicted().await,
            None => std::future::pending().await,
        }
    }

    /// The peer has identified itself: the connection is not evicted any more.
    pub(crate) fn identified(&self) {
        if let Some(handshake) = &self.handshake {
            handshake.identify();
        }
    }

    /// The peer is welcomed: the connection counts no more as a handshake.
    pub(crate) fn welcomed(&mut self) {
        if let Some(handshake) = self.handshake.take() {
            let mut state = self.counts.state.lock();
            if handshake.end() {
                state.handshakes -= 1;
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.welcomed();
        let Some(network) = self.network else { return };
        let mut state = self.counts.state.lock();
        if let Some(count) = state.networks.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                state.networks.remove(&network);
            }
        }
    }
}
