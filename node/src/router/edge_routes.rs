//! Edge routes: where the session of each edge is. Read by all sessions, written by presence.
//!
//! They are a cache of the tables in which a route is one lookup in one shard. The effects of applied events update
//! them, so they are as new as the tables.

use std::collections::HashMap;

use limes_routing::{EdgeId, Home, Incarnation};
use parking_lot::RwLock;

use super::message::SessionHandle;
use super::shards::{SHARDS, spread};

/// Where an edge's live session is.
#[derive(Debug, Clone)]
pub(crate) enum EdgeLocation {
    /// On this node.
    Local {
        /// The session's generation.
        incarnation: Incarnation,
        /// Its mailbox.
        handle: SessionHandle,
    },
    /// On another node.
    Remote(Home),
    /// Elsewhere: its new home has notified this node, which is about to apply the move.
    Superseded(Incarnation),
}

/// Routes to edges.
#[derive(Debug)]
pub(crate) struct EdgeRoutes {
    shards: Vec<RwLock<HashMap<u64, EdgeLocation>>>,
}

impl EdgeRoutes {
    /// No routes.
    pub(crate) fn new() -> Self {
        EdgeRoutes { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    fn shard(&self, edge: EdgeId) -> &RwLock<HashMap<u64, EdgeLocation>> {
        &self.shards[spread(edge.0)]
    }

    /// The route to an edge, if known.
    pub(crate) fn get(&self, edge: EdgeId) -> Option<EdgeLocation> {
        self.shard(edge).read().get(&edge.0).cloned()
    }

    /// Sets the route to an edge.
    pub(crate) fn set(&self, edge: EdgeId, route: EdgeLocation) {
        self.shard(edge).write().insert(edge.0, route);
    }

    /// Notes that an edge has moved to incarnation `to`; returns the mailbox of the older session if it was here.
    /// Keeps a route that is as new.
    pub(crate) fn moved(&self, edge: EdgeId, to: Incarnation) -> Option<SessionHandle> {
        let mut shard = self.shard(edge).write();
        let route = shard.get_mut(&edge.0)?;
        let known = match route {
            EdgeLocation::Local { incarnation, .. } => *incarnation,
            EdgeLocation::Remote(home) => home.incarnation,
            EdgeLocation::Superseded(known) => *known,
        };
        if known >= to {
            return None;
        }
        match std::mem::replace(route, EdgeLocation::Superseded(to)) {
            EdgeLocation::Local { handle, .. } => Some(handle),
            EdgeLocation::Remote(_) | EdgeLocation::Superseded(_) => None,
        }
    }

    /// Removes the route of an incarnation that the tables do not have any more, and a note of its move, which a
    /// snapshot may have skipped.
    pub(crate) fn gone(&self, edge: EdgeId, incarnation: Incarnation) {
        self.remove(edge, incarnation);
        let mut shard = self.shard(edge).write();
        if matches!(shard.get(&edge.0), Some(EdgeLocation::Superseded(to)) if *to >= incarnation) {
            shard.remove(&edge.0);
        }
    }

    /// Removes the route if it still is this incarnation.
    pub(crate) fn remove(&self, edge: EdgeId, incarnation: Incarnation) {
        let mut shard = self.shard(edge).write();
        let same = match shard.get(&edge.0) {
            Some(EdgeLocation::Local { incarnation: known, .. }) => *known == incarnation,
            Some(EdgeLocation::Remote(home)) => home.incarnation == incarnation,
            Some(EdgeLocation::Superseded(to)) => *to == incarnation,
            None => false,
        };
        if same {
            shard.remove(&edge.0);
        }
    }
}
