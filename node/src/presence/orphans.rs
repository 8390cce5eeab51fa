//! R11, as each node sees it: every row of its own has a session here, or its removal is proposed.
//!
//! Rows and sessions are kept true by [`super::watcher`] and [`super::removals`]; this looks whether
//! they are. What it finds is a mistake of ours: it is logged, counted (`limes_ghosts_total`; tests fail
//! on it) and taken out, so that the edge is not unreachable for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use limes_routing::{EdgeId, Event, Incarnation, ServiceId, SessionNo, Tables};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::error;

use super::context::Presence;
use crate::router::registry::SessionOwner;

/// The pause between two looks. A look goes over all rows.
const PAUSE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 1 } else { 60 });

/// A row of this node without a session here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Orphan {
    Edge(EdgeId, Incarnation),
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

/// PeekBackoff for as long as the node runs. A session that ends is taken from the sessions a moment before
/// its removal is noted: only what is seen twice counts.
pub(super) async fn run(presence: Arc<Presence>) {
    let mut last = BTreeSet::new();
    loop {
        sleep(PAUSE).await;
        let Some(replica) = presence.consensus.replica() else { continue };
        let (tables, looker) = (replica.tables(), presence.clone());
        let Ok(found) = spawn_blocking(move || look(&looker, &tables)).await else { continue };
        for ghost in found.intersection(&last) {
            error!(?ghost, "R11 no ghosts: a row without a session; it is taken out");
            presence.telemetry.metrics.orphan();
            presence.removals.push(ghost.removal());
        }
        last = found;
    }
}

/// Rows of this node's live epoch that have no session here and no removal under way.
pub(super) fn look(presence: &Presence, tables: &Tables) -> BTreeSet<Orphan> {
    let Some(me) = presence.consensus.node() else { return BTreeSet::new() };
    if !tables.live_epoch(me).is_some_and(|epoch| presence.consensus.is_own_epoch(epoch)) {
        return BTreeSet::new();
    }
    let held = |session: SessionNo| presence.sessions.get(session.0).map(|entry| entry.who);
    let edges = tables.edges().filter(|(_, row)| row.home.node == me).filter_map(|(edge, row)| {
        let incarnation = row.home.incarnation;
        let same = held(row.home.session) == Some(SessionOwner::Edge(edge, Some(incarnation)));
        (!same).then_some(Orphan::Edge(edge, incarnation))
    });
    let services = tables.services().filter(|row| row.home.node == me).filter_map(|row| {
        let same = held(row.home.session) == Some(SessionOwner::Service(row.service, true));
        (!same).then_some(Orphan::Service(row.service, row.home.session))
    });
    edges.chain(services).filter(|ghost| !presence.removals.has(&ghost.removal())).collect()
}
