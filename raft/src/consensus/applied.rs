//! The applied state: the tables, how far they are, and the verdicts for the proposers of this node.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use limes_routing::{Batch, Effect, Epoch, NodeId, Origin, Reason, Revision, Tables, Verdict, diff};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

use crate::history::History;
use crate::metrics::RaftMetrics;
use crate::network::BootNonces;
use crate::observer::Observer;
use crate::storage::identity::Identity;
use crate::storage::member_cache::MemberCache;
use crate::storage::snapshot;
use crate::types::SnapshotMeta;

/// The newest verdicts of unnumbered batches that are kept for their proposers.
const UNNUMBERED: usize = 1_024;

/// What the state machine shares with the rest of the member.
pub(crate) struct AppliedState {
    pub(crate) dir: PathBuf,
    pub(crate) history: History,
    pub(crate) metrics: RaftMetrics,
    observer: Arc<dyn Observer>,
    /// The index of the snapshot on disk. Held while one is written, so that an older snapshot never
    /// replaces a newer one.
    stored_snapshot: Mutex<Option<u64>>,
    /// Written by apply alone, one entry at a time. Readers hold it for one look-up.
    tables: RwLock<Tables>,
    applied: watch::Sender<u64>,
    epoch: watch::Sender<Option<Epoch>>,
    expected: Mutex<Option<Expected>>,
    unnumbered: Mutex<VecDeque<(u64, Vec<Verdict>)>>,
    node: NodeId,
    boot: [u8; 16],
}

/// The numbered batch whose verdicts the proposer waits for.
struct Expected {
    origin: Origin,
    verdicts: oneshot::Sender<Vec<Verdict>>,
}

impl AppliedState {
    pub(crate) fn new(
        dir: PathBuf,
        observer: Arc<dyn Observer>,
        history: History,
        metrics: RaftMetrics,
        identity: &Identity,
    ) -> Arc<Self> {
        Arc::new(AppliedState {
            dir,
            history,
            metrics,
            observer,
            stored_snapshot: Mutex::default(),
            tables: RwLock::new(Tables::new()),
            applied: watch::Sender::new(0),
            epoch: watch::Sender::new(None),
            expected: Mutex::default(),
            unnumbered: Mutex::default(),
            node: NodeId(identity.node),
            boot: identity.nonce(),
        })
    }

    /// Reads the tables. The closure must be short, because apply waits for it.
    pub(crate) fn read<T>(&self, look_up: impl FnOnce(&Tables) -> T) -> T {
        look_up(&self.tables.read())
    }

    /// Follows the index of the newest applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Follows this process's epoch: `None` until the process is registered, and while it is fenced.
    pub(crate) fn epoch(&self) -> watch::Receiver<Option<Epoch>> {
        self.epoch.subscribe()
    }

    /// Returns where the verdicts of a numbered batch will arrive. Only one batch is expected at a time.
    pub(crate) fn expect_verdicts(&self, origin: Origin) -> oneshot::Receiver<Vec<Verdict>> {
        let (verdicts, receiver) = oneshot::channel();
        *self.expected.lock() = Some(Expected { origin, verdicts });
        receiver
    }

    /// The verdict of the one event of an unnumbered batch, if the batch was applied recently.
    pub(crate) fn unnumbered_verdict(&self, index: u64) -> Option<Verdict> {
        let unnumbered = self.unnumbered.lock();
        unnumbered.iter().find(|(at, _)| *at == index).and_then(|(_, verdicts)| verdicts.first().cloned())
    }

    /// Applies a batch to the tables; called by the state machine alone.
    pub(super) fn apply(&self, index: u64, bytes: &Bytes, batch: &Batch) {
        let mut tables = self.tables.write();
        let applied = tables.apply(Revision(index), batch);
        self.update_epoch(&tables);
        self.observer.applied(Revision(index), batch, &applied.verdicts, &applied.effects, &tables);
        drop(tables);
        self.history.record(Revision(index), bytes, &applied.verdicts);
        if batch.origin.is_some() {
            self.send_verdicts(batch, applied.verdicts);
        } else {
            let mut unnumbered = self.unnumbered.lock();
            unnumbered.truncate(UNNUMBERED - 1);
            unnumbered.push_front((index, applied.verdicts));
        }
    }

    /// Publishes the index up to which entries are applied.
    pub(super) fn set_applied(&self, index: u64) {
        self.applied.send_replace(index);
    }

    /// Replaces the tables by those of a snapshot.
    pub(super) fn install(&self, fresh: Tables) {
        let mut tables = self.tables.write();
        let effects: Vec<Effect> = diff(&tables, &fresh);
        *tables = fresh;
        self.update_epoch(&tables);
        self.observer.installed(&effects, &tables);
    }

    /// Replaces the snapshot on disk, unless that one is newer; durable when it returns. Blocks.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn store_snapshot(&self, meta: &SnapshotMeta, body: &Bytes) -> io::Result<()> {
        let index = meta.last_log_id.map(|last| last.index);
        let mut stored = self.stored_snapshot.lock();
        if index < *stored {
            return Ok(());
        }
        snapshot::write(&self.dir, meta, body)?;
        *stored = index;
        Ok(())
    }

    /// Sends the verdicts to the proposer that expects them. A duplicate batch changes nothing and is
    /// ignored: the proposer gets the verdicts of the first copy.
    fn send_verdicts(&self, batch: &Batch, verdicts: Vec<Verdict>) {
        let duplicate = verdicts.first() == Some(&Verdict::Rejected(Reason::Duplicate));
        let mut expected = self.expected.lock();
        if !duplicate
            && expected.as_ref().is_some_and(|expected| Some(expected.origin) == batch.origin)
            && let Some(expected) = expected.take()
        {
            let _ = expected.verdicts.send(verdicts);
        }
    }

    fn update_epoch(&self, tables: &Tables) {
        let row = tables.node(self.node).filter(|row| row.boot == self.boot && !row.down);
        let epoch = row.map(|row| row.epoch);
        self.epoch.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }
}

/// The newest boots by the tables, or by the member cache while the tables are older.
pub(crate) struct KnownBoots {
    pub(crate) applied: Arc<AppliedState>,
    /// The member cache as it was at the start.
    pub(crate) cache: MemberCache,
}

impl BootNonces for KnownBoots {
    fn newest_boot(&self, node: u64) -> Option<[u8; 16]> {
        self.applied.read(|tables| self.cache.newest_boot(tables, node))
    }
}
