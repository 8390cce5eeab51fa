//! The tables and the one function that changes them.

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

/// What a batch has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// One for each event.
    pub verdicts: Vec<Verdict>,
    /// In the order of the changes.
    pub effects: Vec<Effect>,
}

impl Tables {
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
