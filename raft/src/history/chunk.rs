//! A chunk: several batches as one value of the database.
//!
//! `version u8 | newest time u64 | marks u32 | mark u32 ... | entry ...`, where an entry is
//! `revision u64 | rejected u32 | place u32 ... | length u32 | batch`; all integers are big-endian. The key
//! is the first revision.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use limes_routing::{Batch, Event, Position, Revision};

use super::model::{AppliedBatch, Filter, Record};
use super::subject::{self, Subject};

const VERSION: u8 = 1;
/// Bytes at which a chunk is full; sled keeps larger values in separate files.
const FULL: usize = 64 << 10;

/// The chunk that is being filled.
#[derive(Default)]
pub(super) struct Chunk {
    first: Option<Revision>,
    pub(super) last: Option<Revision>,
    pub(super) newest_ms: u64,
    marks: BTreeSet<u32>,
    entries: BytesMut,
}

impl Chunk {
    /// Adds a batch; a batch that cannot be decoded is left out.
    pub(super) fn push(&mut self, entry: AppliedBatch) {
        let Ok(mut batch) = Batch::decode(entry.bytes.clone()) else { return };
        let bytes = if blank(&mut batch) { batch.encode() } else { entry.bytes };
        self.first.get_or_insert(entry.revision);
        self.last = Some(entry.revision);
        self.newest_ms = self.newest_ms.max(batch.time_ms);
        self.marks.extend(batch.origin.map(|origin| Subject::Node(origin.node).mark()));
        self.marks.extend(batch.events.iter().filter_map(subject::of).map(Subject::mark));
        self.entries.put_u64(entry.revision.0);
        self.entries.put_u32(entry.rejected.len() as u32);
        entry.rejected.iter().for_each(|at| self.entries.put_u32(*at));
        self.entries.put_u32(bytes.len() as u32);
        self.entries.put_slice(&bytes);
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() + self.marks.len() * 4 >= FULL
    }

    /// Takes key and value of a chunk that is not empty; the chunk is empty afterwards.
    pub(super) fn take(&mut self) -> Option<([u8; 8], Bytes)> {
        let Chunk { first, newest_ms, marks, entries, .. } = std::mem::take(self);
        let mut value = BytesMut::with_capacity(13 + marks.len() * 4 + entries.len());
        value.put_u8(VERSION);
        value.put_u64(newest_ms);
        value.put_u32(marks.len() as u32);
        marks.iter().for_each(|mark| value.put_u32(*mark));
        value.put_slice(&entries);
        Some((first?.0.to_be_bytes(), value.freeze()))
    }
}

/// Removes the keys that sign tickets: a search must not reveal them. Returns whether there was one.
fn blank(batch: &mut Batch) -> bool {
    let mut blanked = false;
    for event in &mut batch.events {
        if let Event::ClusterMade { key, .. } = event {
            key.clear();
            blanked = true;
        }
    }
    blanked
}

/// The newest time in a stored chunk.
pub(super) fn newest_ms(mut value: &[u8]) -> Option<u64> {
    (value.try_get_u8().ok()? == VERSION).then(|| value.try_get_u64().ok())?
}

/// The last revision in a stored chunk.
pub(super) fn last(value: &[u8]) -> Option<Revision> {
    let mut last = None;
    walk(value, &[], |revision, _, _| last = Some(revision))?;
    last
}

/// Adds the records of a stored chunk that match the filter; `None` if the chunk cannot be read.
pub(super) fn search(value: &[u8], filter: &Filter, found: &mut Vec<Record>) -> Option<()> {
    let subjects = [
        filter.edge.map(Subject::Edge),
        filter.service.map(Subject::Service),
        filter.node.map(Subject::Node),
    ];
    let subjects: Vec<Subject> = subjects.into_iter().flatten().collect();
    if filter.since_ms > Some(newest_ms(value)?) {
        return Some(());
    }
    let mut readable = true;
    walk(value, &subjects, |revision, rejected, batch| match Batch::decode(Bytes::copy_from_slice(batch)) {
        Ok(batch) => collect(revision, &rejected, batch, &subjects, filter, found),
        Err(_) => readable = false,
    })?;
    readable.then_some(())
}

fn collect(
    revision: Revision,
    rejected: &[u32],
    batch: Batch,
    subjects: &[Subject],
    filter: &Filter,
    found: &mut Vec<Record>,
) {
    let Batch { origin, time_ms, events } = batch;
    let node = origin.map(|origin| origin.node);
    if filter.since_ms > Some(time_ms) {
        return;
    }
    for (event, ordinal) in events.into_iter().zip(0..) {
        let position = Position { revision, ordinal };
        let about = subject::of(&event);
        let matches =
            |subject: &Subject| about == Some(*subject) || node.map(Subject::Node) == Some(*subject);
        if filter.after < Some(position) && !rejected.contains(&ordinal) && subjects.iter().all(matches) {
            found.push(Record { position, time_ms, node, event });
        }
    }
}

/// Calls `each` for every entry, unless the marks show that the chunk lacks one of the subjects; `None` if the
/// chunk cannot be read.
fn walk(
    mut value: &[u8],
    subjects: &[Subject],
    mut each: impl FnMut(Revision, Vec<u32>, &[u8]),
) -> Option<()> {
    if value.try_get_u8().ok()? != VERSION {
        return None;
    }
    value.try_get_u64().ok()?;
    let marks = value.try_get_u32().ok()? as usize;
    let (marks, mut rest) = value.split_at_checked(marks.checked_mul(4)?)?;
    let (marks, _) = marks.as_chunks::<4>();
    let has = |subject: &Subject| marks.binary_search(&subject.mark().to_be_bytes()).is_ok();
    if !subjects.iter().all(has) {
        return Some(());
    }
    while !rest.is_empty() {
        let revision = Revision(rest.try_get_u64().ok()?);
        let count = rest.try_get_u32().ok()?;
        let rejected: Option<Vec<u32>> = (0..count).map(|_| rest.try_get_u32().ok()).collect();
        let len = rest.try_get_u32().ok()? as usize;
        let (batch, behind) = rest.split_at_checked(len)?;
        each(revision, rejected?, batch);
        rest = behind;
    }
    Some(())
}
