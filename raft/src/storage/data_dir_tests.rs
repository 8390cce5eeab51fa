use std::collections::{BTreeMap, BTreeSet};

use limes_routing::{Batch, Event, Revision};
use openraft::entry::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::storage::IOFlushed;
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;

use super::*;
use crate::types::{Entry, LogId, Membership, Node, StoredMembership, TypeConfig};

const CLUSTER: [u8; 16] = [7; 16];

fn id(index: u64) -> LogId {
    LogId::new(LeaderId::new(1, 1).to_committed(), index)
}

async fn open_here(dir: &tempfile::TempDir) -> Result<DataDir, OpenError> {
    open(dir.path(), &RaftMetrics::default()).await
}

/// A directory with ten entries in its log.
async fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SegmentLog::open(&dir.path().join("log")).unwrap();
    let entries = (0..10).map(|index| Entry { log_id: id(index), payload: EntryPayload::Blank });
    let (flushed, synced) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::<TypeConfig>::signal(flushed)).await.unwrap();
    synced.await.unwrap().unwrap();
    let identity = Identity { cluster: CLUSTER, node: 1, log: log.id(), boots: 1, salt: 1 };
    identity::write(dir.path(), identity).unwrap();
    dir
}

/// Writes a snapshot of a cluster, up to entry 50.
fn put_snapshot(dir: &Path, cluster: [u8; 16]) {
    let mut tables = Tables::new();
    let made = Event::ClusterMade { cluster, key: vec![0; 32].into(), founders: Vec::new() };
    tables.apply(Revision(1), &Batch { origin: None, time_ms: 0, events: vec![made] });
    assert_eq!(tables.cluster().map(|cluster| cluster.id), Some(cluster));
    let nodes = BTreeMap::from([(1, Node::new("127.0.0.1:1"))]);
    let alone = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
    let last_membership = StoredMembership::new(Some(id(0)), alone);
    let meta = SnapshotMeta { last_log_id: Some(id(50)), last_membership };
    snapshot::write(dir, &meta, &snapshot::encode_tables(&tables)).unwrap();
}

/// A snapshot that the leader sent is acknowledged, although the log does not reach as far yet.
#[tokio::test]
async fn snapshot_beyond_the_log_sets_the_next_index() {
    let dir = directory().await;
    assert_eq!(open_here(&dir).await.unwrap_or_else(|error| panic!("{error}")).next_index, 10);
    put_snapshot(dir.path(), CLUSTER);
    assert_eq!(open_here(&dir).await.unwrap_or_else(|error| panic!("{error}")).next_index, 51);
}

#[tokio::test]
async fn snapshot_of_another_cluster_is_damage() {
    let dir = directory().await;
    put_snapshot(dir.path(), [8; 16]);
    let Err(error) = open_here(&dir).await else { panic!("a foreign snapshot was accepted") };
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("another cluster, 0808"), "{error}");
}

/// An unreadable file is not a lost file: nothing is quarantined, and the error names the file.
#[tokio::test]
async fn unreadable_file_is_a_disk_error_that_names_the_file() {
    for name in ["identity", "snapshot"] {
        let dir = directory().await;
        let file = dir.path().join(name);
        let _ = fs::remove_file(&file);
        fs::create_dir(&file).unwrap();
        let Err(error) = open_here(&dir).await else { panic!("{name} was read") };
        assert!(matches!(error, OpenError::Io(_)), "{error}");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
    let dir = directory().await;
    fs::remove_dir_all(dir.path().join("log")).unwrap();
    fs::write(dir.path().join("log"), "").unwrap();
    let Err(error) = open_here(&dir).await else { panic!("the log was read") };
    assert!(matches!(error, OpenError::Io(_)), "{error}");
}
