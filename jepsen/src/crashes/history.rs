//! What happened, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Revision and ordinal of an edge's "online".
pub type Incarnation = (u64, u32);

/// An edge's "online", as a node has applied it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seen {
    /// Of the entry that it was in.
    pub revision: u64,
    /// The edge.
    pub edge: u64,
    /// Its session's.
    pub incarnation: Incarnation,
}

/// One thing that happened. Times are microseconds since the begin, nodes are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Event {
    /// An edge was welcome.
    Acknowledged {
        /// Its id.
        edge: u64,
        /// Its session's.
        incarnation: Incarnation,
        /// Where.
        node: usize,
        /// Whether its id was allotted now.
        fresh: bool,
        /// When it asked.
        asked: u64,
        /// When it was told.
        at: u64,
    },
    /// Nodes were killed.
    Killed {
        /// Which.
        nodes: Vec<usize>,
        /// When.
        at: u64,
    },
    /// A node said what it has applied.
    Audited {
        /// Which.
        node: usize,
        /// What came after this revision,
        after: u64,
        /// up to this one.
        to: u64,
        /// When it had said all.
        at: u64,
        /// The edges that came online.
        seen: Vec<Seen>,
    },
}

/// All that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In no order that matters.
    pub events: Vec<Event>,
}

/// What the judge says.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Events that were acknowledged.
    pub acknowledged: usize,
    /// Kills of all nodes in one moment.
    pub kills: usize,
    /// Looks at all nodes.
    pub audits: usize,
    /// Each guarantee that did not hold, in one line.
    pub broken: Vec<String>,
}

/// What one node has said in all.
#[derive(Default)]
struct Log<'a> {
    to: u64,
    /// How far it was known to be, and when that was said.
    known: Vec<(u64, u64)>,
    seen: Vec<&'a Seen>,
}

impl History {
    /// Writes one event a line.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut out = io::BufWriter::new(std::fs::File::create(file)?);
        for event in &self.events {
            serde_json::to_writer(&mut out, event)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Reads what was written.
    ///
    /// # Errors
    /// It is not there, or is no history.
    pub fn read(file: &Path) -> io::Result<History> {
        let lines = io::BufReader::new(std::fs::File::open(file)?).lines();
        let events = lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::from));
        Ok(History { events: events.collect::<io::Result<_>>()? })
    }

    /// Whether every acknowledged event is in the log of every node, once and in one place.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let logs = self.logs(&mut verdict);
        let held: Vec<BTreeSet<(u64, Incarnation)>> = logs
            .values()
            .map(|log| log.seen.iter().map(|seen| (seen.edge, seen.incarnation)).collect())
            .collect();
        let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
        for event in &self.events {
            let Event::Acknowledged { edge, incarnation, fresh, asked, .. } = event else { continue };
            verdict.acknowledged += 1;
            let name = format!("edge {edge} as {}.{}", incarnation.0, incarnation.1);
            for ((node, log), held) in logs.iter().zip(&held) {
                if !held.contains(&(*edge, *incarnation)) {
                    let node = node + 1;
                    verdict.broken.push(format!("R9 {name} was acknowledged, and node-{node} has lost it"));
                }
                // Whoever asks later than a node is known to be so far cannot come before.
                if log.known.iter().any(|(to, at)| at < asked && incarnation.0 <= *to) {
                    let node = node + 1;
                    verdict.broken.push(format!("R9 {name} came where node-{node} had something before"));
                }
            }
            if !places.insert(*incarnation) {
                verdict.broken.push(format!("R3 {name} is in the place of another"));
            }
            if *fresh && !ids.insert(*edge) {
                verdict.broken.push(format!("the id of {name} was allotted twice"));
            }
        }
        verdict
    }

    fn logs(&self, verdict: &mut Verdict) -> BTreeMap<usize, Log<'_>> {
        let mut logs: BTreeMap<usize, Log<'_>> = BTreeMap::new();
        let mut all = 0;
        for event in &self.events {
            match event {
                Event::Killed { nodes, .. } => {
                    all = all.max(nodes.len());
                }
                Event::Audited { node, after, to, at, seen } => {
                    let log = logs.entry(*node).or_default();
                    if log.to != *after || to < after {
                        verdict.broken.push(format!("R9 node-{} went back from {after} to {to}", node + 1));
                    }
                    log.to = *to;
                    log.known.push((*to, *at));
                    log.seen.extend(seen);
                    verdict.audits += 1;
                }
                Event::Acknowledged { .. } => {}
            }
        }
        let kills = self.events.iter();
        verdict.kills =
            kills.filter(|event| matches!(event, Event::Killed { nodes, .. } if nodes.len() == all)).count();
        let common = logs.values().map(|log| log.to).min().unwrap_or(0);
        let shared = |log: &Log<'_>| -> Vec<Seen> {
            log.seen.iter().filter(|seen| seen.revision <= common).map(|seen| (*seen).clone()).collect()
        };
        let mut all = logs.iter().map(|(node, log)| (node + 1, shared(log)));
        if let Some((first, said)) = all.next() {
            for (node, other) in all {
                if let Some(at) = (0..said.len().max(other.len())).find(|at| said.get(*at) != other.get(*at))
                {
                    let (one, two) = (said.get(at), other.get(at));
                    verdict.broken.push(format!(
                        "R9 node-{first} and node-{node} have different logs: {one:?} and {two:?}"
                    ));
                }
            }
        }
        verdict
            .broken
            .extend((logs.is_empty()).then(|| "nobody has said what it holds: nothing is proven".to_owned()));
        logs
    }
}
