//! The list of nodes for cluster clients of the reference: permanent names, each with the address of a live
//! node.
//!
//! Such a client caches for ever under which name it found an edge, and fails when that name leaves the
//! list. Any node forwards to any edge. So the name of a node that is down or draining gets the address of
//! another node, and the client's cache stays valid.

use std::collections::BTreeMap;

use limes_routing::pick::mix;
use limes_routing::{NodeAddrs, NodeId, Tables};

use crate::consensus::departure::is_leaving;
use limes_api::discovery::Frontier;

/// The names of the cluster's nodes and their addresses.
pub(super) struct Frontiers<'a> {
    tables: &'a Tables,
    live: Vec<(NodeId, &'a NodeAddrs)>,
}

impl<'a> Frontiers<'a> {
    /// The nodes of the tables; `leaving` is a node that is draining without the tables showing it yet.
    pub(super) fn of(tables: &'a Tables, leaving: Option<NodeId>) -> Self {
        let up = || tables.nodes().filter(|(_, row)| !row.down);
        let staying = up()
            .filter(|(node, row)| !row.draining && Some(*node) != leaving && !is_leaving(tables, *node, row));
        let mut live: Vec<_> = staying.map(|(node, row)| (node, &row.addrs)).collect();
        if live.is_empty() {
            live = up().map(|(node, row)| (node, &row.addrs)).collect();
        }
        Frontiers { tables, live }
    }

    /// Every node.
    pub(super) fn all(&self) -> Vec<Frontier> {
        // Of two members with the same name the later one is the node: the earlier one has lost its disk.
        let names: BTreeMap<_, _> =
            self.tables.members().map(|member| (member.name.as_str(), member.node)).collect();
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by_key(|(name, _)| (name.len(), *name));
        names.into_iter().filter_map(|(name, node)| self.at(name, node)).collect()
    }

    /// The node with this name.
    pub(super) fn named(&self, name: &str) -> Option<Frontier> {
        self.at(name, self.tables.member_named(name)?.node)
    }

    /// A node's name and address.
    pub(super) fn of_node(&self, node: NodeId) -> Option<Frontier> {
        self.at(self.name(node)?, node)
    }

    /// A node's name.
    pub(super) fn name(&self, node: NodeId) -> Option<&'a str> {
        self.tables.members().find(|member| member.node == node).map(|member| member.name.as_str())
    }

    fn at(&self, name: &str, node: NodeId) -> Option<Frontier> {
        let own = self.live.iter().find(|(live, _)| *live == node);
        // Rendezvous hashing: when another node goes down, only the names that had its address move.
        let score = |live: &&(NodeId, &NodeAddrs)| mix(hash(name) ^ mix(live.0.0));
        let (_, addrs) = own.or_else(|| self.live.iter().max_by_key(score))?;
        Some(Frontier {
            frontier_id: name.to_owned(),
            advertised_sb_addr: addrs.services.clone(),
            advertised_eb_addr: addrs.edges.clone(),
        })
    }
}

/// A hash of a name that is the same on every node and in every version.
pub(super) fn hash(name: &str) -> u64 {
    name.bytes().fold(0, |hash, byte| mix(hash ^ (u64::from(byte) + 1)))
}

#[cfg(test)]
mod tests {
    use limes_routing::{Batch, Event, Founder, Levels, Revision};

    use super::*;

    fn cluster() -> Tables {
        let mut tables = Tables::new();
        let founders = (1..=3)
            .map(|i| Founder { node: NodeId(i), name: format!("node-{i}"), mesh: String::new() })
            .collect();
        let made = Event::ClusterMade { cluster: [1; 16], key: vec![1; 32].into(), founders };
        apply(&mut tables, made);
        for i in 1..=3 {
            let addrs = NodeAddrs { services: format!("s{i}"), edges: format!("e{i}"), ..Default::default() };
            let levels = Levels { min: 1, max: 1 };
            apply(&mut tables, Event::NodeUp { node: NodeId(i), boot: [i as u8; 16], addrs, levels });
        }
        tables
    }

    fn apply(tables: &mut Tables, event: Event) {
        let next = Revision(tables.revision().0 + 1);
        tables.apply(next, &Batch { origin: None, time_ms: 0, events: vec![event] });
    }

    fn addresses(tables: &Tables, leaving: Option<NodeId>) -> Vec<(String, String)> {
        let all = Frontiers::of(tables, leaving).all();
        all.into_iter().map(|node| (node.frontier_id, node.advertised_sb_addr)).collect()
    }

    fn down(tables: &mut Tables, node: u64) {
        let epoch = tables.live_epoch(NodeId(node)).unwrap();
        apply(tables, Event::NodeDown { node: NodeId(node), epoch });
    }

    #[test]
    fn name_of_a_live_node_has_its_own_address() {
        let own = [("node-1", "s1"), ("node-2", "s2"), ("node-3", "s3")].map(|(n, a)| (n.into(), a.into()));
        assert_eq!(addresses(&cluster(), None), own);
    }

    #[test]
    fn name_of_a_down_or_draining_node_has_the_address_of_a_live_one() {
        let mut tables = cluster();
        let left = addresses(&tables, Some(NodeId(2)));
        assert!(left.len() == 3 && left[1].0 == "node-2" && left[1].1 != "s2", "{left:?}");
        let leaving =
            |boot: [u8; 16]| Event::SettingChanged { key: "leaving.1".into(), value: limes_raft::hex(&boot) };
        apply(&mut tables, leaving([7; 16]));
        assert_eq!(addresses(&tables, None)[0].1, "s1", "the announcement is of an earlier boot");
        apply(&mut tables, leaving([1; 16]));
        assert_ne!(addresses(&tables, None)[0].1, "s1");
        apply(&mut tables, leaving([7; 16]));
        apply(&mut tables, Event::Drain { node: NodeId(1), on: true });
        down(&mut tables, 3);
        let all = addresses(&tables, None);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|(_, address)| address == "s2"), "{all:?}");
    }

    #[test]
    fn last_node_is_listed_even_while_it_drains() {
        let mut tables = cluster();
        down(&mut tables, 1);
        down(&mut tables, 2);
        let all = addresses(&tables, Some(NodeId(3)));
        assert!(all.len() == 3 && all.iter().all(|(_, address)| address == "s3"), "{all:?}");
    }
}
