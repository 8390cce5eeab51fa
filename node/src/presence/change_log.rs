//! The recent changes of the tables, for watchers: filled by the task that applies the log, read by any number of
//! followers, each at its own position.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use limes_routing::watch::{Compacted, Entry, Watch};
use limes_routing::{
    EdgeId, Effect, Epoch, Home, NodeId, Position, Revision, ServiceId, ServiceRow, Tables, Why,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::timeout;

/// Bytes of changes that are kept: some 100,000 connects.
const BYTES_KEPT: usize = 16 << 20;
/// Entries that a follower reads at once.
const BATCH: usize = 64;

/// One change, with the row as it was when its entry had been applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// An edge has a session at this home; the row it had before, if any, is gone.
    Edge { edge: EdgeId, home: Home, addr: Box<str>, meta: Bytes },
    /// An edge's session has ended.
    EdgeGone { edge: EdgeId, home: Home, why: Why },
    /// A service's session has begun, or its methods or topics have changed.
    Service(Box<ServiceRow>),
    /// A service's session has ended.
    ServiceGone { service: ServiceId, home: Home, why: Why },
    /// A node has begun an epoch.
    NodeUp(NodeId, Epoch),
    /// A node's epoch is over, and with it every session at home there.
    NodeDown(NodeId, Epoch),
    /// The members, their addresses or their rights have changed.
    Members,
    /// A node is drained, or takes sessions again.
    Drain(NodeId, bool),
    /// A setting and its value; empty: the setting is removed.
    Setting(String, String),
}

/// The latest changes.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    // Held for a push or for a handful of counters.
    watch: Mutex<Watch<Change>>,
    newest: watch::Sender<Revision>,
}

impl ChangeLog {
    pub(super) fn new() -> Self {
        let watch = Mutex::new(Watch::new(Revision(0), BYTES_KEPT));
        ChangeLog { watch, newest: watch::Sender::new(Revision(0)) }
    }

    fn watch(&self) -> MutexGuard<'_, Watch<Change>> {
        self.watch.lock()
    }

    /// Notes an applied entry.
    pub(super) fn note(&self, revision: Revision, effects: &[Effect], tables: &Tables) {
        let changes: Vec<Change> = effects.iter().filter_map(|effect| change_of(effect, tables)).collect();
        let bytes = changes.iter().map(weight).sum();
        self.watch().push(revision, changes, bytes);
        self.newest.send_replace(revision);
    }

    /// A snapshot has replaced the tables: no watcher has seen what lies between.
    pub(super) fn reset(&self, revision: Revision) {
        self.watch().reset(revision);
        self.newest.send_replace(revision);
    }

    /// The newest entry that has been noted.
    pub(crate) fn newest(&self) -> Revision {
        self.watch().newest()
    }

    /// Some entries after a position, oldest first; none if there are no newer ones.
    ///
    /// # Errors
    /// [`Compacted`]: what follows the position is not kept any more.
    pub(crate) fn after(&self, position: Position) -> Result<Vec<Arc<Entry<Change>>>, Compacted> {
        let watch = self.watch();
        Ok(watch.after(position)?.take(BATCH).cloned().collect())
    }

    /// Waits until an entry newer than this has been noted, or for so long. Cancel safe.
    pub(crate) async fn newer(&self, than: Revision, at_most: Duration) {
        let mut newest = self.newest.subscribe();
        let _ = timeout(at_most, newest.wait_for(|newest| *newest > than)).await;
    }
}

/// The change that watchers see of an effect.
fn change_of(effect: &Effect, tables: &Tables) -> Option<Change> {
    Some(match effect {
        Effect::EdgeOnline { edge, home, .. } => {
            let row = tables.edge_row(*edge).filter(|row| row.home == *home);
            // `None`: the edge has gone again within the same entry; that change follows.
            let (addr, meta) = row.map_or_else(Default::default, |row| (row.addr, row.meta));
            Change::Edge { edge: *edge, home: *home, addr: addr.into(), meta: Bytes::copy_from_slice(meta) }
        }
        Effect::EdgeGone { edge, home, why } => Change::EdgeGone { edge: *edge, home: *home, why: *why },
        Effect::ServiceOnline { service, home } | Effect::NamesChanged { service, home } => {
            let row = tables.service_row(*service, home).filter(|row| row.home == *home)?;
            Change::Service(Box::new(row.clone()))
        }
        Effect::ServiceGone { service, home, why } => {
            Change::ServiceGone { service: *service, home: *home, why: *why }
        }
        Effect::NodeUp { node, epoch } => Change::NodeUp(*node, *epoch),
        Effect::NodeDown { node, epoch } => Change::NodeDown(*node, *epoch),
        Effect::MembersChanged => Change::Members,
        Effect::Drain { node, on } => Change::Drain(*node, *on),
        Effect::SettingChanged { key } => {
            Change::Setting(key.clone(), tables.setting(key).unwrap_or_default().to_owned())
        }
        // Concerns nodes and services only.
        Effect::OfflineDue { .. } => return None,
    })
}

/// About how many bytes a change takes.
fn weight(change: &Change) -> usize {
    let names =
        |row: &ServiceRow| row.methods.iter().chain(&row.topics).map(|name| name.len() + 64).sum::<usize>();
    size_of::<Change>()
        + match change {
            Change::Edge { addr, meta, .. } => addr.len() + meta.len(),
            Change::Service(row) => {
                size_of::<ServiceRow>() + row.name.len() + row.meta.len() + row.addr.len() + names(row)
            }
            Change::Setting(key, value) => key.len() + value.len(),
            _ => 0,
        }
}
