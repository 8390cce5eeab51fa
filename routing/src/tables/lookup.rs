//! Lookups in the tables. They never show suspended rows (R5), unless they say so.

use super::state::Tables;
use crate::id::{EdgeId, Epoch, Home, NodeId, Revision, ServiceId};
use crate::rows::{Cluster, EdgeRow, Member, NodeRow, Owed, ServiceRow};
use crate::sessions::Kind;
use crate::shards::EpochRows;

impl Tables {
    /// The revision of the tables.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The cluster, once it exists.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// An edge's live session.
    pub fn edge(&self, edge: EdgeId) -> Option<EdgeRow<'_>> {
        self.edges.get(edge).filter(|row| self.is_live(row.home.node, row.home.epoch))
    }

    /// All live edges, by id.
    pub fn edges(&self) -> impl Iterator<Item = (EdgeId, EdgeRow<'_>)> {
        self.edges.iter().filter(|(_, row)| self.is_live(row.home.node, row.home.epoch))
    }

    /// An edge's row, live or suspended, for the node that revives it.
    pub fn edge_row(&self, edge: EdgeId) -> Option<EdgeRow<'_>> {
        self.edges.get(edge)
    }

    /// All live sessions of services, by service.
    pub fn services(&self) -> impl Iterator<Item = &ServiceRow> {
        self.services.iter().map(|(_, row)| row).filter(|row| self.is_live(row.home.node, row.home.epoch))
    }

    /// A service's session, live or suspended.
    pub fn service_row(&self, service: ServiceId, home: &Home) -> Option<&ServiceRow> {
        self.services.get((service, home.node, home.session))
    }

    /// The live sessions that offer a method, by service.
    pub fn method(&self, name: &str) -> impl Iterator<Item = &ServiceRow> {
        self.offering(Kind::Method, name)
    }

    /// The live sessions that subscribe to a topic, by service.
    pub fn topic(&self, name: &str) -> impl Iterator<Item = &ServiceRow> {
        self.offering(Kind::Topic, name)
    }

    /// The methods that live sessions offer, by name, with the number of sessions.
    pub fn methods(&self) -> impl Iterator<Item = (&str, usize)> {
        self.names(Kind::Method)
    }

    /// The topics that live sessions subscribe to, by name, with the number of sessions.
    pub fn topics(&self) -> impl Iterator<Item = (&str, usize)> {
        self.names(Kind::Topic)
    }

    fn offering(&self, kind: Kind, name: &str) -> impl Iterator<Item = &ServiceRow> {
        let sessions = self.services.offering(kind, name);
        sessions.filter(|row| self.is_live(row.home.node, row.home.epoch))
    }

    fn names(&self, kind: Kind) -> impl Iterator<Item = (&str, usize)> {
        let names = self.services.index(kind).keys().map(|name| &**name);
        names.map(move |name| (name, self.offering(kind, name).count())).filter(|(_, count)| *count > 0)
    }

    /// All members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member with a name; the newest, if a wiped node has joined again.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members.values().rev().find(|member| member.name == name)
    }

    /// A node's latest epoch.
    pub fn node(&self, node: NodeId) -> Option<&NodeRow> {
        self.nodes.get(&node)
    }

    /// All nodes that have ever been up and are still members.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeRow)> {
        self.nodes.iter().map(|(node, row)| (*node, row))
    }

    /// The epoch of a node that is up.
    pub fn live_epoch(&self, node: NodeId) -> Option<Epoch> {
        self.nodes.get(&node).filter(|row| !row.down).map(|row| row.epoch)
    }

    /// The pending callbacks.
    pub fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.owed.values()
    }

    /// A setting's value.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// All settings, by name.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The number of live edges; the cost does not depend on it.
    pub fn edge_count(&self) -> usize {
        let live = self.edges.epochs().filter(|(epoch, rows)| self.is_live(rows.node, *epoch));
        live.map(|(_, rows)| rows.rows).sum()
    }

    /// The number of live edges of a node.
    pub fn edge_count_on(&self, node: NodeId) -> usize {
        let here = |epoch: Epoch, rows: EpochRows| rows.node == node && self.is_live(node, epoch);
        self.edges.epochs().filter(|(epoch, rows)| here(*epoch, *rows)).map(|(_, rows)| rows.rows).sum()
    }

    /// The number of rows of edges, suspended ones included.
    pub fn edge_rows(&self) -> usize {
        self.edges.len()
    }

    /// Whether the node still has rows of an ended epoch.
    pub fn has_suspended(&self, node: NodeId) -> bool {
        let dead = |holder: NodeId, epoch: Epoch| holder == node && !self.is_live(node, epoch);
        self.edges.epochs().any(|(epoch, rows)| dead(rows.node, epoch))
            || self.services.iter().any(|(_, row)| dead(row.home.node, row.home.epoch))
    }

    /// The edges of a node that are suspended, by id.
    pub fn suspended(&self, node: NodeId) -> impl Iterator<Item = (EdgeId, EdgeRow<'_>)> {
        let dead = move |home: &Home| home.node == node && !self.is_live(node, home.epoch);
        self.edges.iter().filter(move |(_, row)| dead(&row.home))
    }

    /// Edges that services are being asked about, with the sessions that wait.
    pub fn admitting(&self) -> impl Iterator<Item = (EdgeId, &Home)> {
        self.admitting.iter().map(|((edge, _, _), home)| (*edge, home))
    }
}
