//! What happened in a run of crashes, as a file of events.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::bare::Incarnation;

/// An edge's "online" as a node has applied it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seen {
    /// The revision of the log entry that holds it.
    pub revision: u64,
    /// The edge.
    pub edge: u64,
    /// The session's incarnation.
    pub incarnation: Incarnation,
}

/// One event. Times are microseconds since the begin of the run; nodes are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Event {
    /// A node welcomed an edge.
    Acknowledged {
        /// The edge's id.
        edge: u64,
        /// The session's incarnation.
        incarnation: Incarnation,
        /// The node.
        node: usize,
        /// Whether the id was newly allotted.
        fresh: bool,
        /// When the edge asked.
        asked: u64,
        /// When the welcome arrived.
        at: u64,
    },
    /// Nodes were killed.
    Killed {
        /// Which nodes.
        nodes: Vec<usize>,
        /// When.
        at: u64,
    },
    /// A node reported what it has applied.
    Audited {
        /// The node.
        node: usize,
        /// The revision after which the report begins.
        after: u64,
        /// The revision with which it ends.
        to: u64,
        /// When the report was complete.
        at: u64,
        /// The edges that came online.
        seen: Vec<Seen>,
    },
}

/// All events of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The events, in any order, except that the audits of one node are in the order in which they were made.
    pub events: Vec<Event>,
}

impl History {
    /// Writes one event per line, as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut out = io::BufWriter::new(std::fs::File::create(file)?);
        for event in &self.events {
            serde_json::to_writer(&mut out, event)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Reads what [`History::write`] wrote.
    ///
    /// # Errors
    /// The file cannot be read, or is not a history.
    pub fn read(file: &Path) -> io::Result<History> {
        let lines = io::BufReader::new(std::fs::File::open(file)?).lines();
        let events = lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::from));
        Ok(History { events: events.collect::<io::Result<_>>()? })
    }
}

/// The history file of a run in this folder.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("history.jsonl")
}
