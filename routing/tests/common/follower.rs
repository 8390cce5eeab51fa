//! A follower that sees only the effects, as a node's session registry does, and must agree with the tables.

use std::collections::{BTreeMap, BTreeSet};

use limes_routing::{EdgeId, Effect, Epoch, Home, Incarnation, NodeId, ServiceId, SessionNo, Tables};

#[derive(Debug, Clone, Default)]
pub(crate) struct Follower {
    epochs: BTreeMap<NodeId, Epoch>,
    edges: BTreeMap<EdgeId, Home>,
    services: BTreeMap<(ServiceId, NodeId, SessionNo), Home>,
    due: BTreeSet<(EdgeId, Incarnation)>,
}

impl Follower {
    pub(crate) fn follow(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::EdgeOnline { edge, home, .. } => {
                    self.edges.insert(*edge, *home);
                }
                Effect::EdgeGone { edge, home, .. } => {
                    if self.edges.get(edge).is_some_and(|held| held.incarnation == home.incarnation) {
                        self.edges.remove(edge);
                    }
                }
                Effect::ServiceOnline { service, home } => {
                    self.services.insert((*service, home.node, home.session), *home);
                }
                Effect::ServiceGone { service, home, .. } => {
                    self.services.remove(&(*service, home.node, home.session));
                }
                Effect::NodeUp { node, epoch } => {
                    self.epochs.insert(*node, *epoch);
                }
                Effect::NodeDown { node, epoch } => {
                    if self.epochs.get(node) == Some(epoch) {
                        self.epochs.remove(node);
                    }
                }
                Effect::OfflineDue { edge, incarnation } => {
                    self.due.insert((*edge, *incarnation));
                }
                Effect::NamesChanged { .. }
                | Effect::MembersChanged
                | Effect::Drain { .. }
                | Effect::SettingChanged { .. } => {}
            }
        }
    }

    /// Panics if the tables show anything else.
    pub(crate) fn compare(&self, tables: &Tables) {
        let live = |home: &Home| self.epochs.get(&home.node) == Some(&home.epoch);
        let edges: BTreeMap<EdgeId, Home> = tables.edges().map(|(edge, row)| (edge, row.home)).collect();
        let known =
            self.edges.iter().filter(|(_, home)| live(home)).map(|(edge, home)| (*edge, *home)).collect();
        assert_eq!(edges, known, "edges, as effects tell them");
        let services: BTreeSet<Home> = tables.services().map(|row| row.home).collect();
        let known = self.services.values().filter(|home| live(home)).copied().collect();
        assert_eq!(services, known, "services, as effects tell them");
        for callback in tables.pending_callbacks() {
            assert!(self.due.contains(&(callback.edge, callback.incarnation)), "{callback:?} was never due");
        }
    }
}
