//! The state machine: applies committed entries, builds snapshots, and installs the leader's.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt};
use limes_routing::{Batch, Tables};
use openraft::entry::EntryPayload;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use tokio::task::spawn_blocking;
use tracing::info;

use super::applied::AppliedState;
use crate::storage::data_dir::LoadedSnapshot;
use crate::storage::snapshot;
use crate::types::{Applied, LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig};

/// The consensus.
pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// The state machine as openraft uses it.
pub(crate) struct StateMachine {
    state: Arc<AppliedState>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    /// The state machine at a snapshot, or empty.
    pub(crate) fn load(state: Arc<AppliedState>, snapshot: Option<LoadedSnapshot>) -> Self {
        let mut machine = StateMachine { state, applied: None, membership: StoredMembership::default() };
        if let Some((meta, tables)) = snapshot {
            machine.jump_to(&meta, tables);
        }
        machine
    }

    fn jump_to(&mut self, meta: &SnapshotMeta, tables: Tables) {
        self.state.install(tables);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.state.set_applied(self.applied.map_or(0, |id| id.index));
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

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
                    // An entry that cannot be decoded must not be skipped: other members may apply it.
                    let batch = Batch::decode(data.0.clone()).map_err(|error| {
                        io::Error::other(format!("entry {} cannot be applied: {error}", log_id.index))
                    })?;
                    self.state.apply(log_id.index, &data.0, &batch);
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(log_id), membership);
                }
            }
            self.applied = Some(log_id);
            self.state.set_applied(log_id.index);
            if let Some(responder) = responder {
                responder.send(Applied);
            }
        }
        self.state.metrics.apply_seconds.record(began.elapsed());
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        SnapshotBuilder {
            state: Arc::clone(&self.state),
            tables: self.state.read(Tables::clone),
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
        let (state, stored, bytes) = (self.state.clone(), meta.clone(), body.clone());
        let decode_and_store = move || {
            let tables = Tables::decode_snapshot(bytes.clone()).map_err(io::Error::other)?;
            state.store_snapshot(&stored, &bytes).map(|()| tables)
        };
        let tables = spawn_blocking(decode_and_store).await.map_err(io::Error::other)??;
        info!(last = ?meta.last_log_id, bytes = body.len(), "snapshot installed");
        self.jump_to(meta, tables);
        self.state.metrics.snapshot_install_seconds.record(began.elapsed());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let dir = self.state.dir.clone();
        let stored = spawn_blocking(move || snapshot::read(&dir)).await.map_err(io::Error::other)??;
        Ok(stored.map(|(meta, body)| Snapshot { meta, snapshot: Cursor::new(body) }))
    }
}

/// Builds one snapshot from a cheap copy of the tables, while apply goes on.
pub(crate) struct SnapshotBuilder {
    state: Arc<AppliedState>,
    tables: Tables,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let began = Instant::now();
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        let (tables, state, stored) = (self.tables.clone(), self.state.clone(), meta.clone());
        let encode_and_store = move || {
            let body = snapshot::encode_tables(&tables);
            state.store_snapshot(&stored, &body).map(|()| body)
        };
        let body = spawn_blocking(encode_and_store).await.map_err(io::Error::other)??;
        self.state.metrics.snapshot_build_seconds.record(began.elapsed());
        info!(applied = ?self.applied, bytes = body.len(), "snapshot written");
        Ok(Snapshot { meta, snapshot: Cursor::new(body) })
    }
}
