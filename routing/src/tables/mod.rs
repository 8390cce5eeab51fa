//! The tables and the one function that changes them.

mod edges;
mod lookup;
mod members;
mod services;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::batch::{Batch, Origin};
use crate::effect::{Effect, Reason, Verdict};
use crate::event::Event;
use crate::id::{EdgeId, Epoch, Home, Incarnation, NodeId, Position, Revision, SessionNo};
use crate::rows::{Cluster, Member, NodeRow, Owed};
use crate::sessions::Sessions;
use crate::shards::Edges;

/// The level that this code brings a new cluster to; it works at this level only.
pub const LEVEL: u32 = 1;
/// Edge ids are given out from here: above what people write by hand.
const FIRST_EDGE: u64 = 1_000_000_000_001;

/// Presence, topics, methods, members and settings at one revision. A clone is cheap and shares
/// rows with the original.
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
    pub(crate) owed: Arc<BTreeMap<(EdgeId, Incarnation), Owed>>,
    pub(crate) settings: BTreeMap<String, String>,
}

impl Default for Tables {
    fn default() -> Self {
        Tables::new()
    }
}

impl Tables {
    /// Goes on as another cluster, with all that is known: when most members are lost for good.
    pub fn adopt(&mut self, id: [u8; 16]) {
        if let Some(cluster) = &mut self.cluster {
            cluster.id = id;
        }
    }
}

/// What a batch has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// One for each event.
    pub verdicts: Vec<Verdict>,
    /// In the order of the changes.
    pub effects: Vec<Effect>,
}

/// One event being applied.
pub(crate) struct Step<'a> {
    pub(crate) at: Position,
    pub(crate) origin: Option<Origin>,
    pub(crate) time_ms: u64,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Step<'_> {
    /// The proposing node and epoch, which are those of the session.
    pub(crate) fn home(&self, session: SessionNo) -> Result<Home, Reason> {
        let Origin { node, epoch, .. } = self.origin.ok_or(Reason::NoOrigin)?;
        Ok(Home { node, epoch, session, incarnation: Incarnation(self.at) })
    }

    /// The next block of ids; none is given twice.
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

impl Tables {
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
            owed: Arc::default(),
            settings: BTreeMap::new(),
        }
    }

    /// Applies the entry at `revision`. In debug builds the invariants are checked afterwards.
    pub fn apply(&mut self, revision: Revision, batch: &Batch) -> Applied {
        self.revision = revision;
        let mut applied = Applied::default();
        if let Some(origin) = &batch.origin
            && let Err(reason) = self.admit(origin)
        {
            applied.verdicts = vec![Verdict::Rejected(reason); batch.events.len()];
            return applied;
        }
        for (ordinal, event) in batch.events.iter().enumerate() {
            let at = Position { revision, ordinal: ordinal as u32 };
            let (origin, time_ms) = (batch.origin, batch.time_ms);
            let mut step = Step { at, origin, time_ms, effects: &mut applied.effects };
            let fenced = batch.origin.is_some_and(|origin| !self.is_live(origin.node, origin.epoch));
            // A node may say its own good-bye; what comes behind it in the batch is of a dead life.
            let verdict = if fenced { Err(Reason::Fenced) } else { self.step(&mut step, event) };
            applied.verdicts.push(verdict.unwrap_or_else(Verdict::Rejected));
        }
        #[cfg(debug_assertions)]
        self.assert_sound();
        applied
    }

    /// Takes a numbered batch once and in order, and only from the node's live epoch (R3).
    fn admit(&mut self, origin: &Origin) -> Result<(), Reason> {
        let node = self.nodes.get_mut(&origin.node).ok_or(Reason::Fenced)?;
        if !node.is_live(origin.epoch) {
            return Err(Reason::Fenced);
        }
        if origin.number <= node.last {
            return Err(Reason::Duplicate);
        }
        if origin.number > node.last + 1 {
            return Err(Reason::Gap);
        }
        node.last = origin.number;
        Ok(())
    }

    fn step(&mut self, step: &mut Step<'_>, event: &Event) -> Result<Verdict, Reason> {
        match event {
            Event::ClusterMade { .. }
            | Event::LevelRaised { .. }
            | Event::MemberAdded { .. }
            | Event::MemberPromoted { .. }
            | Event::MemberRemoved { .. }
            | Event::NodeUp { .. }
            | Event::NodeDown { .. }
            | Event::ResumeEnd {}
            | Event::SuspendedDropped { .. }
            | Event::Drain { .. }
            | Event::SettingChanged { .. } => members::step(self, step, event),
            Event::EdgeIdsReserved { .. }
            | Event::EdgeAdmitting { .. }
            | Event::EdgeOnline { .. }
            | Event::EdgeRefused { .. }
            | Event::EdgeOffline { .. }
            | Event::EdgeResumed { .. }
            | Event::CallbackOwed { .. }
            | Event::CallbackSettled { .. }
            | Event::Kick { .. } => edges::step(self, step, event),
            Event::ServiceIdsReserved { .. }
            | Event::ServiceOnline { .. }
            | Event::ServiceOffline { .. }
            | Event::ServiceResumed { .. }
            | Event::MethodsRegistered { .. }
            | Event::MethodsWithdrawn { .. }
            | Event::TopicsSubscribed { .. }
            | Event::TopicsUnsubscribed { .. }
            | Event::KickService { .. } => services::step(self, step, event),
        }
    }

    pub(crate) fn is_live(&self, node: NodeId, epoch: Epoch) -> bool {
        self.nodes.get(&node).is_some_and(|row| row.is_live(epoch))
    }

    #[cfg(debug_assertions)]
    #[allow(clippy::panic, reason = "a broken invariant must stop at the entry that broke it")]
    fn assert_sound(&self) {
        /// Rows up to which each entry is checked; past it one in 256 is.
        const ALWAYS: usize = 256;
        if (self.edges.len() <= ALWAYS || self.revision.0.is_multiple_of(256))
            && let Err(violation) = self.check()
        {
            panic!("revision {}: {violation}", self.revision);
        }
    }
}
