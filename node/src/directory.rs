//! What this node knows about who is where, shared by all sessions and written by presence.
//!
//! The directory is a cache of the tables in a form that forwarding can use: a route to an edge is
//! one lookup in one shard. It is filled from the effects of applied events, so that it is as new
//! as the tables.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use limes_routing::{EdgeId, Home, Incarnation, ServiceId};

use crate::mail::Outbox;

/// Shards of each map: enough that sessions on many cores seldom meet.
const SHARDS: usize = 256;

/// Where an edge's live session is.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// On this node.
    Here {
        /// The session's generation.
        incarnation: Incarnation,
        /// Its mailbox.
        outbox: Outbox,
    },
    /// On another node.
    There(Home),
    /// Not there any more: its new home has said so, and this node is about to apply it.
    Moved(Incarnation),
}

/// Routes to edges.
#[derive(Debug)]
pub(crate) struct Directory {
    shards: Vec<RwLock<HashMap<u64, Route>>>,
}

impl Directory {
    /// An empty directory.
    pub(crate) fn new() -> Self {
        Directory { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    fn shard(&self, edge: EdgeId) -> &RwLock<HashMap<u64, Route>> {
        &self.shards[spread(edge.0)]
    }

    /// The route to an edge, if known.
    pub(crate) fn get(&self, edge: EdgeId) -> Option<Route> {
        self.shard(edge).read().unwrap_or_else(PoisonError::into_inner).get(&edge.0).cloned()
    }

    /// Sets the route to an edge.
    pub(crate) fn set(&self, edge: EdgeId, route: Route) {
        self.shard(edge).write().unwrap_or_else(PoisonError::into_inner).insert(edge.0, route);
    }

    /// Notes that an edge has moved; gives the mailbox of the older session if it was here. A route that
    /// is as new stays.
    pub(crate) fn moved(&self, edge: EdgeId, to: Incarnation) -> Option<Outbox> {
        let mut shard = self.shard(edge).write().unwrap_or_else(PoisonError::into_inner);
        let route = shard.get_mut(&edge.0)?;
        let known = match route {
            Route::Here { incarnation, .. } => *incarnation,
            Route::There(home) => home.incarnation,
            Route::Moved(known) => *known,
        };
        if known >= to {
            return None;
        }
        match std::mem::replace(route, Route::Moved(to)) {
            Route::Here { outbox, .. } => Some(outbox),
            Route::There(_) | Route::Moved(_) => None,
        }
    }

    /// The tables have this incarnation no longer: removes its route, and a note that it has moved, for
    /// that has been stepped over.
    pub(crate) fn gone(&self, edge: EdgeId, incarnation: Incarnation) {
        self.remove(edge, incarnation);
        let mut shard = self.shard(edge).write().unwrap_or_else(PoisonError::into_inner);
        if matches!(shard.get(&edge.0), Some(Route::Moved(to)) if *to >= incarnation) {
            shard.remove(&edge.0);
        }
    }

    /// Removes the route if it still is this incarnation.
    pub(crate) fn remove(&self, edge: EdgeId, incarnation: Incarnation) {
        let mut shard = self.shard(edge).write().unwrap_or_else(PoisonError::into_inner);
        let same = match shard.get(&edge.0) {
            Some(Route::Here { incarnation: known, .. }) => *known == incarnation,
            Some(Route::There(home)) => home.incarnation == incarnation,
            Some(Route::Moved(to)) => *to == incarnation,
            None => false,
        };
        if same {
            shard.remove(&edge.0);
        }
    }
}

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// An edge, with its incarnation once the event is applied.
    Edge(EdgeId, Option<Incarnation>),
    /// A service; true once the event is applied.
    Service(ServiceId, bool),
}

impl Who {
    /// Whether it is an edge's.
    pub(crate) fn is_edge(self) -> bool {
        matches!(self, Who::Edge(..))
    }
}

/// A session that this node holds.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its mailbox.
    pub(crate) outbox: Outbox,
    /// Whose it is.
    pub(crate) who: Who,
    /// It has missed a keepalive: others are preferred.
    pub(crate) silent: bool,
}

/// The sessions of this node by local number.
#[derive(Debug)]
pub(crate) struct Sessions {
    last: AtomicU64,
    /// Asked at each connect.
    count: AtomicUsize,
    shards: Vec<Mutex<HashMap<u64, Entry>>>,
}

impl Sessions {
    /// No sessions.
    pub(crate) fn new() -> Self {
        Sessions {
            last: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// A local number that no other session or mesh link of this process has.
    pub(crate) fn issue(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn shard(&self, no: u64) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.shards[spread(no)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a session before its event is proposed.
    pub(crate) fn insert(&self, no: u64, entry: Entry) {
        if self.shard(no).insert(no, entry).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The session with this number.
    pub(crate) fn get(&self, no: u64) -> Option<Entry> {
        self.shard(no).get(&no).cloned()
    }

    /// Notes that the session's event is applied, and gives its mailbox. Nothing: the session has ended meanwhile, or is
    /// another's; whoever asks must propose the removal.
    pub(crate) fn applied(&self, no: u64, who: Who) -> Option<Outbox> {
        let mut shard = self.shard(no);
        let entry = shard.get_mut(&no)?;
        let same = match (entry.who, who) {
            (Who::Edge(held, _), Who::Edge(edge, _)) => held == edge,
            (Who::Service(held, _), Who::Service(service, _)) => held == service,
            _ => false,
        };
        if !same || entry.outbox.is_closed() {
            return None;
        }
        entry.who = who;
        Some(entry.outbox.clone())
    }

    /// Notes whether the session's peer has missed a keepalive.
    pub(crate) fn set_silent(&self, no: u64, silent: bool) {
        if let Some(entry) = self.shard(no).get_mut(&no) {
            entry.silent = silent;
        }
    }

    /// Takes a session out: it has ended.
    pub(crate) fn remove(&self, no: u64) -> Option<Entry> {
        let removed = self.shard(no).remove(&no);
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// A copy of all sessions, one shard at a time.
    pub(crate) fn all(&self) -> Vec<(u64, Entry)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.iter().map(|(no, entry)| (*no, entry.clone())));
        }
        all
    }

    /// How many sessions this node holds.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Spreads consecutive numbers over the shards (Fibonacci hashing; Knuth, TAOCP 6.4).
fn spread(number: u64) -> usize {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize % SHARDS
}
