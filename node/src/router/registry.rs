//! The sessions that this node holds, by local number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use limes_routing::{EdgeId, Incarnation, ServiceId};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::message::SessionHandle;
use super::shards::{SHARDS, spread};

/// The owner of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionOwner {
    /// An edge; the incarnation is known once the event is applied.
    Edge(EdgeId, Option<Incarnation>),
    /// A service; true once the event is applied.
    Service(ServiceId, bool),
}

impl SessionOwner {
    /// Whether the owner is an edge.
    pub(crate) fn is_edge(self) -> bool {
        matches!(self, SessionOwner::Edge(..))
    }
}

/// A session that this node holds.
#[derive(Debug, Clone)]
pub(crate) struct SessionEntry {
    /// Its mailbox.
    pub(crate) handle: SessionHandle,
    /// The edge or service.
    pub(crate) owner: SessionOwner,
    /// Whether it has missed a keepalive: other sessions are preferred.
    pub(crate) silent: bool,
}

/// The sessions of this node by local number.
#[derive(Debug)]
pub(crate) struct SessionRegistry {
    last: AtomicU64,
    /// Read at each connect, hence not the sum of the shards.
    count: AtomicUsize,
    /// Fires when the last session is removed.
    emptied: Notify,
    shards: Vec<Mutex<HashMap<u64, SessionEntry>>>,
}

impl SessionRegistry {
    /// No sessions.
    pub(crate) fn new() -> Self {
        SessionRegistry {
            last: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            emptied: Notify::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// A local number that no other session or mesh link of this process has.
    pub(crate) fn issue(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn shard(&self, no: u64) -> MutexGuard<'_, HashMap<u64, SessionEntry>> {
        self.shards[spread(no)].lock()
    }

    /// Registers a session before its event is proposed.
    pub(crate) fn insert(&self, no: u64, entry: SessionEntry) {
        if self.shard(no).insert(no, entry).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The session with this number.
    pub(crate) fn get(&self, no: u64) -> Option<SessionEntry> {
        self.shard(no).get(&no).cloned()
    }

    /// Notes that the session's event is applied, and returns its mailbox. `None`: the session has ended
    /// meanwhile, or belongs to another owner; the caller must propose the removal.
    pub(crate) fn applied(&self, no: u64, owner: SessionOwner) -> Option<SessionHandle> {
        let mut shard = self.shard(no);
        let entry = shard.get_mut(&no)?;
        let same = match (entry.owner, owner) {
            (SessionOwner::Edge(held, _), SessionOwner::Edge(edge, _)) => held == edge,
            (SessionOwner::Service(held, _), SessionOwner::Service(service, _)) => held == service,
            _ => false,
        };
        if !same || entry.handle.is_closed() {
            return None;
        }
        entry.owner = owner;
        Some(entry.handle.clone())
    }

    /// Notes whether the session's peer has missed a keepalive.
    pub(crate) fn set_silent(&self, no: u64, silent: bool) {
        if let Some(entry) = self.shard(no).get_mut(&no) {
            entry.silent = silent;
        }
    }

    /// Removes a session that has ended.
    pub(crate) fn remove(&self, no: u64) -> Option<SessionEntry> {
        let removed = self.shard(no).remove(&no);
        if removed.is_some() && self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
        removed
    }

    /// A copy of all sessions, one shard at a time.
    pub(crate) fn all(&self) -> Vec<(u64, SessionEntry)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.iter().map(|(no, entry)| (*no, entry.clone())));
        }
        all
    }

    /// Waits until this node holds no session.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn wait_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// How many sessions this node holds.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}
