//! A model of the log: what it may hold after each call.

use std::sync::Arc;

use limes_raft::log::files::Files;
use limes_raft::log::{OpenError, SegmentLog};
use limes_raft::types::{Data, Entry, LogId, TypeConfig, Vote};
use openraft::RaftLogReader;
use openraft::entry::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::fragile::Fragile;

/// Bytes of a segment: small, so that a log has many files.
pub const SEGMENT: u64 = 4_096;

/// The content of a log, found or expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub entries: Vec<Entry>,
}

/// One call of the log.
#[derive(Clone, Debug)]
pub enum Step {
    Vote(Vote),
    Append(Vec<Entry>),
    Truncate(Option<LogId>),
    Purge(LogId),
    Committed(LogId),
}

impl Content {
    pub async fn of(log: &mut SegmentLog) -> Self {
        let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
        let purged = log.get_log_state().await.unwrap().last_purged_log_id;
        Content { vote: log.read_vote().await.unwrap(), purged, entries }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.log_id).or(self.purged)
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Append(entries) => self.entries.extend(entries.iter().cloned()),
            Step::Truncate(after) => {
                self.entries.retain(|entry| Some(entry.log_id.index) <= after.map(|id| id.index))
            }
            Step::Purge(to) => {
                self.purged = self.purged.max(Some(*to));
                self.entries.retain(|entry| entry.log_id.index > to.index);
            }
            Step::Committed(_) => {}
        }
    }

    /// A random step that a node might take next.
    pub fn next(&self, random: &mut StdRng) -> Step {
        let term = self.vote.map_or(0, |vote| vote.leader_id.term);
        let last = self.last();
        let some = |random: &mut StdRng| self.entries.choose(random).map(|entry| entry.log_id);
        match random.random_range(0..20) {
            0 => Step::Vote(Vote::new(term + 1, 1)),
            1 if last > self.purged => Step::Truncate(some(random).or(self.purged).max(self.purged)),
            2 | 3 if let Some(to) = some(random) => Step::Purge(to),
            4 => match some(random) {
                Some(to) => Step::Committed(to),
                None => Step::Vote(Vote::new(term + 1, 2)),
            },
            _ => {
                let from = last.map_or(0, |last| last.index + 1);
                let many = random.random_range(1..6);
                Step::Append((from..from + many).map(|index| entry(term, index, random)).collect())
            }
        }
    }
}

fn entry(term: u64, index: u64, random: &mut StdRng) -> Entry {
    let size = if random.random_range(0..40) == 0 { 6_000 } else { random.random_range(0..300) };
    let log_id = LogId::new(LeaderId::new(term, 1).to_committed(), index);
    let payload = match random.random_range(0..9) {
        0 => EntryPayload::Blank,
        // Zeros must not be mistaken for an empty disk.
        1 => EntryPayload::Normal(Data(vec![0; size].into())),
        _ => EntryPayload::Normal(Data((0..size).map(|_| random.random()).collect::<Vec<u8>>().into())),
    };
    Entry { log_id, payload }
}

/// Executes a step. Returns whether its effect is certainly durable.
pub async fn act(log: &mut SegmentLog, step: &Step) -> std::io::Result<bool> {
    match step.clone() {
        Step::Vote(vote) => log.save_vote(&vote).await.map(|()| true),
        Step::Append(entries) => {
            let (flushed, synced) = TypeConfig::oneshot();
            log.append(entries, IOFlushed::<TypeConfig>::signal(flushed)).await?;
            synced.await.map_err(std::io::Error::other)?.map(|()| true)
        }
        Step::Truncate(after) => log.truncate_after(after).await.map(|()| true),
        Step::Purge(to) => log.purge(to).await.map(|()| false),
        Step::Committed(to) => log.save_committed(Some(to)).await.map(|()| false),
    }
}

/// All contents that a log may have: the last certain one, and those that later steps may have made.
pub struct Model {
    pub possible: Vec<Content>,
}

impl Model {
    pub fn now(&self) -> &Content {
        self.possible.last().unwrap()
    }

    /// A step begins: from now on its effect may be there, or a part of it.
    pub fn begin(&mut self, step: &Step) {
        let before = self.now().clone();
        if let Step::Append(entries) = step {
            for many in 1..entries.len() {
                let mut partly = before.clone();
                partly.apply(&Step::Append(entries[..many].to_vec()));
                self.possible.push(partly);
            }
        }
        let mut after = before;
        after.apply(step);
        self.possible.push(after);
    }

    /// The last step was acknowledged.
    pub fn acknowledge(&mut self) {
        self.possible.drain(..self.possible.len() - 1);
    }

    /// Checks that the found content is a possible one; it is certain from now on.
    pub fn check(&mut self, found: Content, what: &str) {
        assert!(self.possible.contains(&found), "{what}: found {found:?}, not one of {:?}", self.possible);
        self.possible = vec![found];
    }
}

pub fn open(disk: &Fragile) -> Result<SegmentLog, OpenError> {
    SegmentLog::open_in(Arc::new(disk.clone()))
}

/// Executes random steps until one fails; returns whether none failed.
pub async fn work(log: &mut SegmentLog, model: &mut Model, steps: usize, random: &mut StdRng) -> bool {
    for _ in 0..steps {
        let step = model.now().next(random);
        model.begin(&step);
        match act(log, &step).await {
            Ok(true) => model.acknowledge(),
            Ok(false) => {}
            Err(_) => return false,
        }
    }
    true
}

/// The number of rounds: `LIMES_ROUNDS`, or `many`.
pub fn rounds(many: u64) -> u64 {
    std::env::var("LIMES_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(many)
}

/// Waits until the log that used a disk is closed.
pub fn wait_closed(disk: &Fragile) {
    drop(disk.lock().unwrap());
}
