//! R11, as each node checks it: every row of its own has a session here, or its removal is proposed.
//!
//! [`super::applier`] and [`super::removals`] keep rows and sessions in step; this checks that they do. A row
//! without a session is a bug: it is logged, counted (`limes_ghosts_total`, on which tests fail), and removed,
//! so that the edge does not stay unreachable.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use limes_raft::Replica;
use limes_routing::{EdgeId, Event, Incarnation, ServiceId, SessionNo, Tables};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::error;

use super::context::Presence;
use crate::router::registry::SessionOwner;
use crate::telemetry::dictionary;

/// The pause between two checks. A check reads all rows.
const INTERVAL: Duration = Duration::from_secs(if cfg!(debug_assertions) { 1 } else { 60 });

/// A row of this node without a session here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Orphan {
    /// Of an edge.
    Edge(EdgeId, Incarnation),
    /// Of a service.
    Service(ServiceId, SessionNo),
}

impl Orphan {
    fn removal(self) -> Event {
        match self {
            Orphan::Edge(edge, incarnation) => Event::EdgeOffline { edge, incarnation },
            Orphan::Service(service, session) => Event::ServiceOffline { service, session },
        }
    }
}

/// Checks for as long as the node runs. A session that ends leaves the registry a moment before its removal is
/// queued, so only a row that two checks find counts.
pub(super) async fn run(presence: Arc<Presence>, replica: Replica) {
    let mut last = BTreeSet::new();
    loop {
        sleep(INTERVAL).await;
        let (tables, checker) = (replica.tables(), presence.clone());
        let Ok(found) = spawn_blocking(move || find(&checker, &tables)).await else { continue };
        for orphan in found.intersection(&last) {
            error!(?orphan, "R11 no orphaned rows: a row without a session; it is removed");
            presence.telemetry.metrics.increment(dictionary::ORPHANS);
            presence.removals.push(orphan.removal());
        }
        last = found;
    }
}

/// Rows of this node's live epoch that have no session here and no removal under way.
pub(super) fn find(presence: &Presence, tables: &Tables) -> BTreeSet<Orphan> {
    let Some(me) = presence.consensus.node() else { return BTreeSet::new() };
    if !tables.live_epoch(me).is_some_and(|epoch| presence.consensus.is_own_epoch(epoch)) {
        return BTreeSet::new();
    }
    let owner = |session: SessionNo| presence.sessions.get(session.0).map(|entry| entry.owner);
    let edges = tables.edges().filter(|(_, row)| row.home.node == me).filter_map(|(edge, row)| {
        let incarnation = row.home.incarnation;
        let same = owner(row.home.session) == Some(SessionOwner::Edge(edge, Some(incarnation)));
        (!same).then_some(Orphan::Edge(edge, incarnation))
    });
    let services = tables.services().filter(|row| row.home.node == me).filter_map(|row| {
        let same = owner(row.home.session) == Some(SessionOwner::Service(row.service, true));
        (!same).then_some(Orphan::Service(row.service, row.home.session))
    });
    edges.chain(services).filter(|orphan| !presence.removals.has(&orphan.removal())).collect()
}
