//! openraft's conformance suite for log stores.

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

/// A state machine that stores only its last applied log id: the suite needs one beside the log.
#[derive(Debug, Default)]
struct Counter {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Arc<Mutex<Option<Snapshot>>>,
}

/// Builds empty snapshots.
struct EmptyBuilder(SnapshotMeta, Arc<Mutex<Option<Snapshot>>>);

impl RaftSnapshotBuilder<TypeConfig> for EmptyBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let snapshot = Snapshot { meta: self.0.clone(), snapshot: SnapshotData::default() };
        *self.1.lock().unwrap() = Some(snapshot.clone());
        Ok(snapshot)
    }
}

impl RaftStateMachine<TypeConfig> for Counter {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = EmptyBuilder;

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

    async fn get_snapshot_builder(&mut self) -> EmptyBuilder {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        EmptyBuilder(meta, self.snapshot.clone())
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

/// Logs on a disk in memory with small files, because the suite makes a hundred of them.
struct InMemory;

impl StoreBuilder<TypeConfig, SegmentLog, Counter> for InMemory {
    async fn build(&self) -> Result<((), SegmentLog, Counter), StorageError<TypeConfig>> {
        let log = SegmentLog::open_in(Arc::new(Fragile::new(4_096))).unwrap();
        Ok(((), log, Counter::default()))
    }
}

/// Logs on the file system.
struct OnDisk;

impl StoreBuilder<TypeConfig, SegmentLog, Counter, tempfile::TempDir> for OnDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, SegmentLog, Counter), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let log = SegmentLog::open(dir.path()).unwrap();
        Ok((dir, log, Counter::default()))
    }
}

/// The suite on logs in memory.
type Tests = Suite<TypeConfig, SegmentLog, Counter, InMemory, ()>;

async fn one<F>(test: impl FnOnce(SegmentLog, Counter) -> F) -> Result<(), String>
where
    F: Future<Output = Result<(), io::Error>>,
{
    let ((), log, counter) = InMemory.build().await.map_err(|error| error.to_string())?;
    test(log, counter).await.map_err(|error| error.to_string())
}

macro_rules! concurrently {
    ($($test:ident)*) => {
        futures::future::join_all([$(
            Box::pin(async { (stringify!($test), one(Tests::$test).await) })
                as std::pin::Pin<Box<dyn Future<Output = _>>>
        ),*])
    };
}

/// All tests of `Suite::test_all` in this version, concurrently: eight of them sleep for a second.
#[tokio::test]
async fn log_passes_the_suite() {
    let ended: Vec<(&str, Result<(), String>)> = concurrently! {
        last_membership_in_log_initial last_membership_in_log last_membership_in_log_multi_step
        get_membership_initial get_membership_from_log_and_empty_sm get_membership_from_empty_log_and_sm
        get_membership_from_log_le_sm_last_applied get_membership_from_log_gt_sm_last_applied_1
        get_membership_from_log_gt_sm_last_applied_2 get_initial_state_without_init
        get_initial_state_membership_from_empty_log_and_sm
        get_initial_state_membership_from_sm_inlog_is_smaller
        get_initial_state_membership_from_log_insm_is_smaller get_initial_state_with_state
        get_initial_state_last_log_gt_sm get_initial_state_last_log_lt_sm
        get_initial_state_inverted_log_order get_initial_state_conflict_at_same_index
        get_initial_state_log_ids get_initial_state_re_apply_committed save_vote get_log_entries
        limited_get_log_entries leader_bounded_stream entries_stream try_get_log_entry
        log_reader_reads_new_entries initial_logs get_log_state get_log_id last_id_in_log
        last_applied_state purge_logs_upto_0 purge_logs_upto_5 purge_logs_upto_20 delete_logs_after_11
        delete_logs_after_5 delete_logs_after_0 delete_logs_after_none append_to_log snapshot_meta
        snapshot_meta_optional apply_single apply_multiple
    }
    .await;
    let failed: Vec<_> = ended.iter().filter(|(_, ended)| ended.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    Tests::transfer_snapshot(&InMemory).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "sleeps for eight seconds; the same as above on a real disk"]
async fn log_passes_the_suite_on_a_real_disk() {
    Suite::test_all(OnDisk).await.unwrap();
}
