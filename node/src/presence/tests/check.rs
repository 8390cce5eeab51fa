//! What must hold once every node has applied the whole log.

use std::collections::BTreeMap;

use limes_routing::{EdgeId, Home, NodeId, Position, ServiceId, ServiceRow, SessionNo, Tables};

use super::world::{EDGES, Member, World, is_same};
use crate::presence::change_log::Change;
use crate::presence::orphans;
use crate::router::edge_routes::EdgeLocation;
use crate::router::registry::SessionOwner;

impl World {
    /// Each node's routes are those of the tables, each row has its session, and no edge has two sessions.
    pub(super) fn check(&self) {
        let mut holders = BTreeMap::<EdgeId, Home>::new();
        for member in &self.members {
            let node = &member.node;
            let me = node.consensus.node().unwrap();
            assert_eq!(orphans::find(&node.presence, &self.tables), Default::default(), "R11");
            for edge in (1..=EDGES).map(EdgeId) {
                let row = self.tables.edge(edge).map(|row| row.home);
                let route = node.presence.edges.get(edge);
                match (row, &route) {
                    (None, None) => {}
                    (Some(home), Some(EdgeLocation::Remote(there))) if home.node != me => {
                        assert_eq!(home, *there)
                    }
                    (Some(home), Some(EdgeLocation::Local { incarnation, handle })) if home.node == me => {
                        assert_eq!(home.incarnation, *incarnation);
                        assert!(member.open.get(&home.session.0).is_some_and(|held| is_same(held, handle)));
                    }
                    _ => panic!("edge {edge} is at {row:?}, and node {} knows {route:?}", me),
                }
            }
            for (no, entry) in node.sessions.all() {
                if let SessionOwner::Edge(edge, _) = entry.owner {
                    let home = self.tables.edge(edge).map(|row| row.home);
                    let home = home.filter(|home| (home.node, home.session.0) == (me, no));
                    let home = home.unwrap_or_else(|| {
                        panic!("node {} holds {no} of {edge}, which is not in the tables", me)
                    });
                    assert_eq!(holders.insert(edge, home), None, "R1: {edge} has two sessions");
                }
            }
            self.check_changes(member);
            let offered = node.presence.services.load();
            let offered: Vec<_> =
                offered.method("greet").iter().map(|c| (c.service, c.node, c.session)).collect();
            let rows = self.tables.method("greet").map(|row| (row.service, row.home.node, row.home.session));
            assert_eq!(offered, rows.collect::<Vec<_>>(), "services of node {}", me);
        }
    }
}

/// What a watcher knows that began with the tables and then followed the changes.
#[derive(Debug, Default, PartialEq)]
struct Followed {
    edges: BTreeMap<EdgeId, Home>,
    services: BTreeMap<(ServiceId, NodeId, SessionNo), usize>,
}

impl Followed {
    fn state(tables: &Tables) -> Self {
        let service = |row: &ServiceRow| ((row.service, row.home.node, row.home.session), row.methods.len());
        Followed {
            edges: tables.edges().map(|(edge, row)| (edge, row.home)).collect(),
            services: tables.services().map(service).collect(),
        }
    }

    fn follow(&mut self, change: &Change) {
        match change {
            Change::Edge { edge, home, .. } => _ = self.edges.insert(*edge, *home),
            Change::EdgeGone { edge, home, .. }
                if self.edges.get(edge).is_some_and(|held| held.incarnation == home.incarnation) =>
            {
                self.edges.remove(edge);
            }
            Change::Service(row) => {
                let key = (row.service, row.home.node, row.home.session);
                self.services.insert(key, row.methods.len());
            }
            Change::ServiceGone { service, home, .. } => {
                self.services.remove(&(*service, home.node, home.session));
            }
            Change::NodeDown(node, _) => {
                self.edges.retain(|_, home| home.node != *node);
                self.services.retain(|(_, holder, _), _| holder != node);
            }
            _ => {}
        }
    }
}

impl World {
    /// A watcher that followed this node since its last snapshot knows the tables, wherever it interrupted
    /// its reading.
    fn check_changes(&self, member: &Member) {
        let changes = &member.node.presence.changes;
        let begin = Position::end_of(member.base.revision());
        let read = |mut from: Position, upto: usize| {
            let mut all = Vec::new();
            while all.len() < upto {
                let entries = changes.after(from).unwrap();
                let Some(last) = entries.last() else { break };
                let end = Position::end_of(last.revision);
                all.extend(entries.iter().flat_map(|entry| {
                    entry.after(from).map(|(at, change)| (at, change.clone())).collect::<Vec<_>>()
                }));
                from = end;
            }
            all
        };
        let all = read(begin, usize::MAX);
        let mut followed = Followed::state(&member.base);
        all.iter().for_each(|(_, change)| followed.follow(change));
        assert_eq!(
            followed,
            Followed::state(&self.tables),
            "what a watcher of node {} knows",
            member.node.consensus.node().unwrap()
        );
        assert!(all.is_sorted_by(|(a, _), (b, _)| a < b), "out of order");
        for cut in (0..all.len()).step_by(7) {
            assert_eq!(read(all[cut].0, usize::MAX), all[cut + 1..], "after {}", all[cut].0);
        }
        // The other nodes report the same changes.
        for other in &self.members {
            let from = begin.max(Position::end_of(other.base.revision()));
            let mut theirs = other.node.presence.changes.after(from).unwrap();
            let ours = changes.after(from).unwrap();
            theirs.truncate(ours.len());
            assert_eq!(theirs, ours[..theirs.len()]);
        }
    }
}
