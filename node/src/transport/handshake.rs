//! The handshake of one connection, as the connection limiter counts it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use limes_wire::Code;
use limes_wire::frame::GoAway;
use tokio::sync::Notify;

use crate::router::message::Receiver;

/// The peer has not identified itself.
const SILENT: u8 = 0;
/// The peer has identified itself, and the node works for it.
const IDENTIFIED: u8 = 1;
/// The connection was closed in favour of another.
const EVICTED: u8 = 2;
/// The peer is welcomed, or gone.
const ENDED: u8 = 3;

/// A connection that is not welcomed yet.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    phase: AtomicU8,
    receiver: OnceLock<Receiver>,
    evicted: Notify,
}

impl Handshake {
    /// Whether the peer has not identified itself and is not evicted.
    pub(super) fn is_silent(&self) -> bool {
        self.phase.load(Ordering::Acquire) == SILENT
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.phase.load(Ordering::Acquire) == EVICTED
    }

    /// The peer has identified itself: the connection is not evicted any more.
    pub(super) fn identify(&self) {
        let _ = self.phase.compare_exchange(SILENT, IDENTIFIED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Evicts the connection if its peer is silent; false: it is not. `most`: the limit, for the text.
    pub(super) fn evict(&self, most: usize) -> bool {
        let changed = self.phase.compare_exchange(SILENT, EVICTED, Ordering::AcqRel, Ordering::Acquire);
        if changed.is_ok() {
            self.announce_eviction(most);
        }
        changed.is_ok()
    }

    /// Ends the handshake; false: the connection was evicted, and is not counted any more.
    pub(super) fn end(&self) -> bool {
        self.phase.swap(ENDED, Ordering::AcqRel) != EVICTED
    }

    /// Sets the mailbox that gets the command to close when the connection is evicted, or if it is evicted already.
    pub(super) fn set_receiver(&self, receiver: &Receiver, most: usize) {
        let _ = self.receiver.set(receiver.clone());
        if self.is_evicted() {
            self.announce_eviction(most);
        }
    }

    /// Waits until the connection is evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn announce_eviction(&self, most: usize) {
        self.evicted.notify_one();
        if let Some(receiver) = self.receiver.get() {
            let text = format!(
                "{most} connections are being admitted, and this one has sent nothing (limits.handshakes)"
            );
            receiver.close(GoAway::new(Code::LIMIT, text));
        }
    }
}
