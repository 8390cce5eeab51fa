//! Committed entries into the tables, and what everybody else may see of them.

use std::collections::VecDeque;
use std::io::{self, Cursor};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use limes_routing::{Batch, Effect, Epoch, NodeId, Origin, Reason, Revision, Tables, Verdict, diff};
use openraft::OptionalSend;
use openraft::entry::EntryPayload;
use openraft::storage::{EntryResponder, RaftStateMachine};
use tokio::sync::{oneshot, watch};

use crate::history::History;
use crate::metrics::RaftMetrics;
use crate::observer::Observer;
use crate::storage::snapshot::{self, Builder};
use crate::types::{Applied, LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig};

/// Verdicts of batches without a number that are kept for those who proposed them.
const PLAIN: usize = 1_024;

/// What the state machine shares with the rest of the member.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) history: History,
    pub(crate) metrics: RaftMetrics,
    /// The index of the snapshot on disk; held while one is written, so that an older one never
    /// replaces a newer.
    pub(crate) saved: Mutex<u64>,
    // Written by apply alone, one entry at a time; readers hold it for one lookup.
    tables: RwLock<Tables>,
    applied: watch::Sender<u64>,
    epoch: watch::Sender<Option<Epoch>>,
    awaited: Mutex<Option<Awaited>>,
    plain: Mutex<VecDeque<(u64, Vec<Verdict>)>>,
    me: (NodeId, [u8; 16]),
}

/// The batch of this node whose verdicts somebody waits for.
struct Awaited {
    origin: Origin,
    tell: oneshot::Sender<Vec<Verdict>>,
}

impl Shared {
    pub(crate) fn new(
        dir: PathBuf,
        observer: Arc<dyn Observer>,
        history: History,
        metrics: RaftMetrics,
        me: (NodeId, [u8; 16]),
    ) -> Arc<Self> {
        Arc::new(Shared {
            dir,
            observer,
            history,
            metrics,
            saved: Mutex::new(0),
            tables: RwLock::new(Tables::new()),
            applied: watch::Sender::new(0),
            epoch: watch::Sender::new(None),
            awaited: Mutex::new(None),
            plain: Mutex::default(),
            me,
        })
    }

    /// Looks something up; the closure must be short.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows the index of the newest applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Follows this process's epoch: `None` until it is up, and while it is fenced.
    pub(crate) fn epoch(&self) -> watch::Receiver<Option<Epoch>> {
        self.epoch.subscribe()
    }

    /// Asks for the verdicts of a numbered batch; only one is awaited at a time.
    pub(crate) fn await_batch(&self, origin: Origin) -> oneshot::Receiver<Vec<Verdict>> {
        let (tell, told) = oneshot::channel();
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some(Awaited { origin, tell });
        told
    }

    /// The verdict of the one event that a batch without a number held, if it was applied lately.
    pub(crate) fn plain_verdict(&self, index: u64) -> Option<Verdict> {
        let plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        plain.iter().find(|(at, _)| *at == index).and_then(|(_, verdicts)| verdicts.first().cloned())
    }

    fn apply(&self, index: u64, bytes: &Bytes, batch: &Batch) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let applied = tables.apply(Revision(index), batch);
        self.note_epoch(&tables);
        self.observer.applied(Revision(index), batch, &applied.verdicts, &applied.effects, &tables);
        drop(tables);
        self.history.record(Revision(index), bytes, &applied.verdicts);
        if batch.origin.is_some() {
            self.tell(batch, applied.verdicts);
        } else {
            let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
            plain.truncate(PLAIN - 1);
            plain.push_front((index, applied.verdicts));
        }
    }

    /// A duplicate changes nothing and tells nothing: the first of the two has told it.
    fn tell(&self, batch: &Batch, verdicts: Vec<Verdict>) {
        let duplicate = verdicts.first() == Some(&Verdict::Rejected(Reason::Duplicate));
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if !duplicate
            && awaited.as_ref().is_some_and(|awaited| Some(awaited.origin) == batch.origin)
            && let Some(awaited) = awaited.take()
        {
            let _ = awaited.tell.send(verdicts);
        }
    }

    fn note_epoch(&self, tables: &Tables) {
        let (node, boot) = self.me;
        let epoch = tables.node(node).filter(|row| row.boot == boot && !row.down).map(|row| row.epoch);
        self.epoch.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    fn install(&self, fresh: Tables) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let effects: Vec<Effect> = diff(&tables, &fresh);
        *tables = fresh;
        self.note_epoch(&tables);
        self.observer.installed(&effects, &tables);
    }
}

/// The state machine as openraft sees it.
pub struct Machine {
    shared: Arc<Shared>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl Machine {
    /// The machine at a snapshot, or empty.
    pub(crate) fn load(shared: Arc<Shared>, stored: Option<(SnapshotMeta, Tables)>) -> Self {
        let mut machine = Machine { shared, applied: None, membership: StoredMembership::default() };
        if let Some((meta, tables)) = stored {
            machine.take(&meta, tables);
        }
        machine
    }

    fn take(&mut self, meta: &SnapshotMeta, tables: Tables) {
        self.shared.install(tables);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.shared.applied.send_replace(self.applied.map_or(0, |id| id.index));
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let began = Instant::now();
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let log_id = entry.log_id;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(data) => {
                    // An entry that cannot be read must not be skipped: others may apply it.
                    let batch = Batch::decode(data.0.clone()).map_err(|error| {
                        io::Error::other(format!("entry {} cannot be applied: {error}", log_id.index))
                    })?;
                    self.shared.apply(log_id.index, &data.0, &batch);
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(log_id), membership);
                }
            }
            self.applied = Some(log_id);
            self.shared.applied.send_replace(log_id.index);
            if let Some(responder) = responder {
                responder.send(Applied);
            }
        }
        self.shared.metrics.apply_seconds.record(began.elapsed());
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        Builder {
            shared: Arc::clone(&self.shared),
            tables: self.shared.read(Tables::clone),
            applied: self.applied,
            membership: self.membership.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let began = Instant::now();
        let body = snapshot.into_inner();
        let (shared, stored, bytes) = (self.shared.clone(), meta.clone(), body.clone());
        let checked = move || {
            let tables = Tables::decode_snapshot(bytes.clone()).map_err(io::Error::other)?;
            snapshot::save(&shared, &stored, &bytes).map(|()| tables)
        };
        let tables = tokio::task::spawn_blocking(checked).await.map_err(io::Error::other)??;
        tracing::info!(last = ?meta.last_log_id, bytes = body.len(), "snapshot installed");
        self.take(meta, tables);
        self.shared.metrics.snapshot_install_seconds.record(began.elapsed());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let dir = self.shared.dir.clone();
        let stored =
            tokio::task::spawn_blocking(move || snapshot::read(&dir)).await.map_err(io::Error::other)??;
        Ok(stored.map(|(meta, body)| Snapshot { meta, snapshot: Cursor::new(body) }))
    }
}
