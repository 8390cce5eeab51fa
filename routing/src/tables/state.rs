//! The tables themselves, and one event's view of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::Origin;
use crate::effect::{Effect, Reason, Verdict};
use crate::id::{EdgeId, Epoch, Home, Incarnation, NodeId, Position, Revision, SessionNo};
use crate::rows::{Cluster, Member, NodeRow, PendingCallback};
use crate::sessions::Sessions;
use crate::shards::Edges;

/// The first id that is assigned to an edge: above those that people choose by hand.
const FIRST_EDGE: u64 = 1_000_000_000_001;

/// Presence, topics, methods, members and settings at one revision. A clone is cheap and shares rows with the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    pub(crate) revision: Revision,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) members: BTreeMap<NodeId, Member>,
    pub(crate) nodes: BTreeMap<NodeId, NodeRow>,
    pub(crate) next_edge: u64,
    pub(crate) next_service: u64,
    pub(crate) edges: Edges,
    pub(crate) services: Arc<Sessions>,
    pub(crate) admitting: Arc<BTreeMap<(EdgeId, NodeId, SessionNo), Home>>,
    pub(crate) pending_callbacks: Arc<BTreeMap<(EdgeId, Incarnation), PendingCallback>>,
    pub(crate) settings: BTreeMap<String, String>,
}

impl Default for Tables {
    fn default() -> Self {
        Tables::new()
    }
}

impl Tables {
    /// Continues under another cluster id with the same contents, after most members were lost.
    pub fn adopt(&mut self, id: [u8; 16]) {
        if let Some(cluster) = &mut self.cluster {
            cluster.id = id;
        }
    }

    /// Empty tables, before the first event.
    pub fn new() -> Self {
        Tables {
            revision: Revision(0),
            cluster: None,
            members: BTreeMap::new(),
            nodes: BTreeMap::new(),
            next_edge: FIRST_EDGE,
            next_service: 1,
            edges: Edges::default(),
            services: Arc::default(),
            admitting: Arc::default(),
            pending_callbacks: Arc::default(),
            settings: BTreeMap::new(),
        }
    }

    pub(crate) fn is_live(&self, node: NodeId, epoch: Epoch) -> bool {
        self.nodes.get(&node).is_some_and(|row| row.is_live(epoch))
    }
}

/// The context of one event that is being applied.
pub(crate) struct Step<'a> {
    pub(crate) at: Position,
    pub(crate) origin: Option<Origin>,
    pub(crate) time_ms: u64,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    /// The home of a session of the proposing node.
    pub(crate) fn home(&self, session: SessionNo) -> Result<Home, Reason> {
        let Origin { node, epoch, .. } = self.origin.ok_or(Reason::NoOrigin)?;
        Ok(Home { node, epoch, session, incarnation: Incarnation(self.at) })
    }

    /// Reserves the next block of ids; no id is reserved twice.
    pub(crate) fn ids(&self, next: &mut u64, count: u32) -> Result<Verdict, Reason> {
        self.origin.ok_or(Reason::NoOrigin)?;
        let first = *next;
        *next = first.checked_add(u64::from(count)).ok_or(Reason::NoChange)?;
        Ok(Verdict::Ids { first, count })
    }

    pub(crate) fn accepted(&self) -> Result<Verdict, Reason> {
        Ok(Verdict::Accepted(self.at))
    }
}
