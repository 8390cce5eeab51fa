//! openraft's own suite for log stores.

use std::io;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt};
use limes_raft::log::SegmentLog;
use limes_raft::types::{Applied, LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig};
use openraft::entry::EntryPayload;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, RaftSnapshotBuilder, StorageError};

use crate::fragile::Fragile;

/// A state machine that remembers only how far it is: the suite wants one beside the log.
#[derive(Debug, Default)]
struct Counter {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Arc<Mutex<Option<Snapshot>>>,
}

/// Its snapshots hold nothing.
struct Nothing(SnapshotMeta, Arc<Mutex<Option<Snapshot>>>);

impl RaftSnapshotBuilder<TypeConfig> for Nothing {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let snapshot = Snapshot { meta: self.0.clone(), snapshot: SnapshotData::default() };
        *self.1.lock().unwrap() = Some(snapshot.clone());
        Ok(snapshot)
    }
}

impl RaftStateMachine<TypeConfig> for Counter {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Nothing;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(self.applied, membership);
            }
            if let Some(responder) = responder {
                responder.send(Applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Nothing {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Nothing(meta, self.snapshot.clone())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock().unwrap() = Some(Snapshot { meta: meta.clone(), snapshot });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshot.lock().unwrap().clone())
    }
}

/// On a disk in memory with small files: the suite makes a hundred logs and is about what they say.
struct InMemory;

impl StoreBuilder<TypeConfig, SegmentLog, Counter> for InMemory {
    async fn build(&self) -> Result<((), SegmentLog, Counter), StorageError<TypeConfig>> {
        let log = SegmentLog::open_in(Arc::new(Fragile::new(4_096))).unwrap();
        Ok(((), log, Counter::default()))
    }
}

/// On the file system.
struct OnDisk;

impl StoreBuilder<TypeConfig, SegmentLog, Counter, tempfile::TempDir> for OnDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, SegmentLog, Counter), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = SegmentLog::open(dir.path()).unwrap();
        Ok((dir, log, Counter::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_does_what_openraft_wants() {
    Suite::test_all(InMemory).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten seconds to make a hundred folders; the same as above on a real disk"]
async fn the_log_does_what_openraft_wants_on_a_real_disk() {
    Suite::test_all(OnDisk).await.unwrap();
}
