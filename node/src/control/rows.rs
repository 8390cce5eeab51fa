//! Rows of the tables as the API shows them.

use std::collections::{BTreeMap, HashMap};

use limes_raft::Replica;
use limes_routing::{EdgeId, EdgeRow, NodeId, ServiceRow, Tables};

use crate::consensus::handle::Consensus;
use limes_api::v1::{Edge, Node as Row, Service, StatusReply};

/// The names of members.
pub(super) struct Names(HashMap<NodeId, String>);

impl Names {
    /// The names in the tables.
    pub(super) fn of(tables: &Tables) -> Self {
        Names(tables.members().map(|member| (member.node, member.name.clone())).collect())
    }

    /// No names: every member is shown by its number.
    pub(super) fn none() -> Self {
        Names(HashMap::new())
    }

    /// A member's name; its number if the tables no longer contain it.
    pub(super) fn name(&self, node: NodeId) -> String {
        self.0.get(&node).cloned().unwrap_or_else(|| node.to_string())
    }

    /// Whether a node matches a filter by name; an empty filter matches every node.
    pub(super) fn is(&self, node: NodeId, asked: &str) -> bool {
        asked.is_empty() || self.0.get(&node).is_some_and(|name| name == asked)
    }
}

/// The members and the leader, as the node with this name knows them.
pub(super) fn status(name: &str, consensus: &Consensus, replica: &Replica, tables: &Tables) -> StatusReply {
    let status = replica.status();
    let mut services: BTreeMap<NodeId, u64> = BTreeMap::new();
    for row in tables.services() {
        *services.entry(row.home.node).or_default() += 1;
    }
    let nodes = tables.members().map(|member| {
        let row = tables.node(member.node);
        let addrs = row.map(|row| row.addrs.clone()).unwrap_or_default();
        Row {
            name: member.name.clone(),
            number: member.node.0,
            voter: member.voter,
            up: row.is_some_and(|row| !row.down),
            draining: row.is_some_and(|row| row.draining),
            epoch: row.map_or(0, |row| row.epoch.0),
            edges: u64::try_from(tables.edge_count_on(member.node)).unwrap_or(u64::MAX),
            services: services.get(&member.node).copied().unwrap_or(0),
            mesh_addr: if addrs.mesh.is_empty() { member.mesh.clone() } else { addrs.mesh },
            edges_addr: addrs.edges,
            services_addr: addrs.services,
            control_addr: addrs.control,
        }
    });
    let names = Names::of(tables);
    StatusReply {
        cluster: limes_raft::hex(&replica.cluster()),
        revision: tables.revision().0,
        leader: status.leader.map(|leader| names.name(leader)).unwrap_or_default(),
        term: status.term,
        asked: name.to_owned(),
        ready: consensus.is_ready() && !consensus.is_draining(),
        nodes: nodes.collect(),
    }
}

/// An edge as the API shows it.
pub(super) fn edge(names: &Names, edge: EdgeId, row: &EdgeRow<'_>) -> Edge {
    Edge {
        id: edge.0,
        node: names.name(row.home.node),
        addr: row.addr.to_owned(),
        meta: String::from_utf8_lossy(row.meta).into_owned(),
        incarnation: row.home.incarnation.to_string(),
    }
}

/// A session of a service as the API shows it.
pub(super) fn service(names: &Names, row: &ServiceRow) -> Service {
    let list = |names: &std::collections::BTreeSet<Box<str>>| names.iter().map(ToString::to_string).collect();
    Service {
        id: row.service.0,
        name: row.name.to_string(),
        node: names.name(row.home.node),
        addr: row.addr.to_string(),
        methods: list(&row.methods),
        topics: list(&row.topics),
        session: row.home.session.0,
    }
}
