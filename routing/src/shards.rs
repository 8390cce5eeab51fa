//! The rows of edges in copy-on-write shards, ordered by id: a copy of all rows costs one counter per shard, and a
//! change after it copies one shard.
//!
//! A row is 56 bytes and one allocation, because there may be a million. It does not contain its node: an epoch belongs
//! to one node, so the node is looked up among the few epochs that have rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{EdgeId, Epoch, Home, Incarnation, NodeId, Position, Revision, SessionNo};
use crate::rows::EdgeRow;

/// Largest number of rows in one shard. Copying a shard takes about 20 µs, and the first batch of 500 events after a copy
/// of the tables about 10 ms.
const SHARD_MAX: usize = 256;

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    edge: EdgeId,
    epoch: Epoch,
    session: SessionNo,
    revision: Revision,
    ordinal: u32,
    /// Length of the address in `data`, in bytes.
    addr: u32,
    /// Whether a callback is due, when the session began, the address, the meta.
    data: Arc<[u8]>,
}

/// The rows of one epoch of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochRows {
    pub(crate) node: NodeId,
    pub(crate) rows: usize,
}

/// A row that was removed.
#[derive(Debug)]
pub(crate) struct Taken {
    node: NodeId,
    slot: Slot,
}

impl Taken {
    pub(crate) fn row(&self) -> EdgeRow<'_> {
        self.slot.row(self.node)
    }
}

/// An edge whose home has changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) edge: EdgeId,
    pub(crate) was: Option<Home>,
    pub(crate) is: Option<Home>,
}

/// A range of rows, never empty.
#[derive(Debug, Clone)]
struct Shard {
    /// No row of this shard has a lower id, and no row of the shard before a higher one.
    first: EdgeId,
    rows: Arc<Vec<Slot>>,
}

/// All edges' rows, live and suspended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edges {
    shards: Vec<Shard>,
    epochs: BTreeMap<Epoch, EpochRows>,
    len: usize,
}

/// Compares the rows only: their distribution over shards depends on the history.
impl PartialEq for Edges {
    fn eq(&self, other: &Self) -> bool {
        self.epochs == other.epochs && self.slots().eq(other.slots())
    }
}

impl Eq for Edges {}

/// Bytes of `data` before the address: a flag and a time.
const FIXED: usize = 9;

fn find(rows: &[Slot], edge: EdgeId) -> Result<usize, usize> {
    rows.binary_search_by_key(&edge, |slot| slot.edge)
}

impl Slot {
    fn new(edge: EdgeId, row: &EdgeRow<'_>) -> Self {
        let at = row.home.incarnation.0;
        let flag = std::iter::once(u8::from(row.offline_callback));
        let born = row.born_ms.to_be_bytes();
        let data = flag.chain(born).chain(row.addr.bytes()).chain(row.meta.iter().copied()).collect();
        Slot {
            edge,
            epoch: row.home.epoch,
            session: row.home.session,
            revision: at.revision,
            ordinal: at.ordinal,
            addr: row.addr.len() as u32,
            data,
        }
    }

    fn home(&self, node: NodeId) -> Home {
        let incarnation = Incarnation(Position { revision: self.revision, ordinal: self.ordinal });
        Home { node, epoch: self.epoch, session: self.session, incarnation }
    }

    fn row(&self, node: NodeId) -> EdgeRow<'_> {
        let (addr, meta) = self.data[FIXED..].split_at(self.addr as usize);
        let born_ms = self.data[1..FIXED].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
        // The bytes were text when the row was made.
        let addr = std::str::from_utf8(addr).unwrap_or_default();
        EdgeRow { home: self.home(node), meta, addr, born_ms, offline_callback: self.data[0] != 0 }
    }
}

impl Edges {
    fn node(&self, epoch: Epoch) -> NodeId {
        self.epochs.get(&epoch).map_or(NodeId(0), |rows| rows.node)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.shards.iter().flat_map(|shard| shard.rows.iter())
    }

    /// The shard of an edge, whether it has a row or not.
    fn shard(&self, edge: EdgeId) -> usize {
        self.shards.partition_point(|shard| shard.first <= edge).saturating_sub(1)
    }

    fn find(&self, edge: EdgeId) -> Option<&Slot> {
        let rows = &self.shards.get(self.shard(edge))?.rows;
        find(rows, edge).ok().map(|at| &rows[at])
    }

    pub(crate) fn get(&self, edge: EdgeId) -> Option<EdgeRow<'_>> {
        self.find(edge).map(|slot| slot.row(self.node(slot.epoch)))
    }

    /// Inserts a row; gives the row that it replaces.
    pub(crate) fn insert(&mut self, edge: EdgeId, row: &EdgeRow<'_>) -> Option<Taken> {
        let old = self.put(Slot::new(edge, row));
        self.enter(row.home.epoch, row.home.node);
        old.map(|slot| self.leave(slot))
    }

    fn put(&mut self, slot: Slot) -> Option<Slot> {
        let at = self.shard(slot.edge);
        let Some(shard) = self.shards.get_mut(at) else {
            self.shards.push(Shard { first: slot.edge, rows: Arc::new(vec![slot]) });
            return None;
        };
        let place = match find(&shard.rows, slot.edge) {
            Ok(place) => return Some(std::mem::replace(&mut Arc::make_mut(&mut shard.rows)[place], slot)),
            Err(place) => place,
        };
        if shard.rows.len() >= SHARD_MAX {
            self.split(at, place);
            return self.put(slot);
        }
        shard.first = shard.first.min(slot.edge);
        let rows = Arc::make_mut(&mut shard.rows);
        if rows.len() == rows.capacity() {
            // Doubling would leave a quarter of the memory unused.
            rows.reserve_exact(4.max(rows.len() / 8));
        }
        rows.insert(place, slot);
        None
    }

    /// Splits a full shard into which a row is to be inserted.
    fn split(&mut self, at: usize, place: usize) {
        let rows = Arc::make_mut(&mut self.shards[at].rows);
        // Assigned ids increase: an insertion behind the last row leaves the shard nearly full.
        let cut = if place == rows.len() { rows.len() - 1 } else { rows.len() / 2 };
        let upper = rows.split_off(cut);
        rows.shrink_to_fit();
        self.shards.insert(at + 1, Shard { first: upper[0].edge, rows: Arc::new(upper) });
    }

    /// Gives a row another epoch and incarnation.
    pub(crate) fn revive(&mut self, edge: EdgeId, home: &Home) {
        let at = self.shard(edge);
        let Some(shard) = self.shards.get_mut(at) else { return };
        // Looked up first: a miss must not copy a shared shard.
        let Ok(place) = find(&shard.rows, edge) else { return };
        let slot = &mut Arc::make_mut(&mut shard.rows)[place];
        let old = slot.clone();
        slot.epoch = home.epoch;
        Position { revision: slot.revision, ordinal: slot.ordinal } = home.incarnation.0;
        self.enter(home.epoch, home.node);
        self.leave(old);
    }

    pub(crate) fn remove(&mut self, edge: EdgeId) -> Option<Taken> {
        let at = self.shard(edge);
        let shard = self.shards.get_mut(at)?;
        let place = find(&shard.rows, edge).ok()?;
        let slot = Arc::make_mut(&mut shard.rows).remove(place);
        self.tidy(at);
        Some(self.leave(slot))
    }

    /// Merges a small shard with the next one, or removes it if it is empty.
    fn tidy(&mut self, at: usize) {
        let len = self.shards[at].rows.len();
        if len == 0 {
            self.shards.remove(at);
        } else if len < SHARD_MAX / 4
            && self.shards.get(at + 1).is_some_and(|next| len + next.rows.len() <= SHARD_MAX / 2)
        {
            let next = self.shards.remove(at + 1);
            Arc::make_mut(&mut self.shards[at].rows).extend(next.rows.iter().cloned());
        }
    }

    /// Removes all rows of the epochs that `goes` selects, ordered by id.
    pub(crate) fn drain(&mut self, goes: impl Fn(Epoch, NodeId) -> bool) -> Vec<(EdgeId, Taken)> {
        let mut epochs = self.epochs.clone();
        epochs.retain(|epoch, rows| goes(*epoch, rows.node));
        let mut taken = Vec::with_capacity(epochs.values().map(|rows| rows.rows).sum());
        if epochs.is_empty() {
            return taken;
        }
        for shard in &mut self.shards {
            if shard.rows.iter().any(|slot| epochs.contains_key(&slot.epoch)) {
                let rows = Arc::make_mut(&mut shard.rows);
                let gone = rows.extract_if(.., |slot| epochs.contains_key(&slot.epoch));
                taken.extend(gone.map(|slot| (slot.edge, Taken { node: epochs[&slot.epoch].node, slot })));
                rows.shrink_to_fit();
            }
        }
        self.shards.retain(|shard| !shard.rows.is_empty());
        self.epochs.retain(|epoch, _| !epochs.contains_key(epoch));
        self.len -= taken.len();
        taken
    }

    fn enter(&mut self, epoch: Epoch, node: NodeId) {
        self.epochs.entry(epoch).or_insert(EpochRows { node, rows: 0 }).rows += 1;
        self.len += 1;
    }

    fn leave(&mut self, slot: Slot) -> Taken {
        let node = self.node(slot.epoch);
        if let Some(rows) = self.epochs.get_mut(&slot.epoch) {
            rows.rows -= 1;
            if rows.rows == 0 {
                self.epochs.remove(&slot.epoch);
            }
        }
        self.len -= 1;
        Taken { node, slot }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The epochs that have rows, with the number of rows.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = (Epoch, EpochRows)> {
        self.epochs.iter().map(|(epoch, rows)| (*epoch, *rows))
    }

    /// All rows, ordered by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (EdgeId, EdgeRow<'_>)> {
        self.slots().map(|slot| (slot.edge, slot.row(self.node(slot.epoch))))
    }

    /// Whether a lookup finds every row.
    pub(crate) fn in_order(&self) -> bool {
        self.slots().is_sorted_by(|a, b| a.edge < b.edge)
            && self.shards.iter().all(|shard| shard.rows.first().is_some_and(|row| row.edge >= shard.first))
            && self.slots().all(|slot| self.find(slot.edge).is_some())
    }

    /// The edges whose homes differ; skips the shards that both share.
    pub(crate) fn moved<'a>(&'a self, newer: &'a Self) -> impl Iterator<Item = Moved> + 'a {
        let home = |edges: &Self, slot: &Slot| slot.home(edges.node(slot.epoch));
        let gone = self.beside(newer).filter(|slot| newer.find(slot.edge).is_none());
        let gone = gone.map(move |slot| Moved { edge: slot.edge, was: Some(home(self, slot)), is: None });
        let here = newer.beside(self).map(move |slot| {
            let was = self.find(slot.edge).map(|slot| home(self, slot));
            Moved { edge: slot.edge, was, is: Some(home(newer, slot)) }
        });
        gone.chain(here.filter(|moved| moved.was != moved.is))
    }

    /// The rows in shards that the other does not share.
    fn beside(&self, other: &Self) -> impl Iterator<Item = &Slot> {
        let shared: BTreeSet<_> = other.shards.iter().map(|shard| Arc::as_ptr(&shard.rows)).collect();
        let own = self.shards.iter().filter(move |shard| !shared.contains(&Arc::as_ptr(&shard.rows)));
        own.flat_map(|shard| shard.rows.iter())
    }
}
