//! The tables and the function that changes them.

mod edges;
mod lookup;
mod members;
mod services;
mod state;

use crate::batch::{Batch, Origin};
use crate::effect::{Effect, Reason, Verdict};
use crate::event::Event;
use crate::id::{Position, Revision};

use state::Step;
pub use state::Tables;

/// The results of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// One verdict for each event.
    pub verdicts: Vec<Verdict>,
    /// The effects, in the order of the changes.
    pub effects: Vec<Effect>,
}

impl Tables {
    /// Applies the entry at `revision`. Debug builds check the invariants afterwards.
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
            // A node may report its own end; the epoch of the events behind it in the batch has ended.
            let verdict = if fenced { Err(Reason::Fenced) } else { self.step(&mut step, event) };
            applied.verdicts.push(verdict.unwrap_or_else(Verdict::Rejected));
        }
        #[cfg(debug_assertions)]
        self.assert_sound();
        applied
    }

    /// Accepts a numbered batch once, in order, and only from the node's live epoch (R3).
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

    #[cfg(debug_assertions)]
    #[allow(clippy::panic, reason = "a violated invariant must stop at the entry that violated it")]
    fn assert_sound(&self) {
        /// Number of rows up to which every entry is checked; above it one in 256.
        const ALWAYS: usize = 256;
        if (self.edges.len() <= ALWAYS || self.revision.0.is_multiple_of(256))
            && let Err(violation) = self.check()
        {
            panic!("revision {}: {violation}", self.revision);
        }
    }
}
