//! The invariants of the tables, each by its rule in the design.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{EdgeId, Home, NodeId, Position, ServiceId};
use crate::tables::Tables;

/// A violated rule, and the row that violates it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// R1: a session's incarnation is an entry of its node's epoch, and of no other session.
    #[error("R1 one home: edge {0} has the impossible home {1:?}")]
    OneHome(EdgeId, Home),
    /// R2: the newer of two sessions of one service instance has removed the older.
    #[error("R2 newest wins: service {0} has two sessions of one instance")]
    Twice(ServiceId),
    /// R3: a node's epoch is an applied entry, and of no other node.
    #[error("R3 fenced: node {0} has an epoch that cannot be its own")]
    Fenced(NodeId),
    /// R4: every row is on a member that has been up.
    #[error("R4 visible: a row at {0:?}, which is not a member that has been up")]
    Homeless(Home),
    /// R4: lookups by name find exactly the rows that have the name.
    #[error("R4 visible: the indexes do not agree with the rows")]
    Lost,
    /// R5: no lookup or count includes a node that is down.
    #[error("R5 gone: a lookup shows a row at {0:?}, whose epoch has ended")]
    Shown(Home),
    /// R5: the counters agree with the rows.
    #[error("R5 gone: the counters say {counted} live edges, the rows {found}")]
    Count {
        /// Number by the counters.
        counted: usize,
        /// Number of rows.
        found: usize,
    },
    /// R11: only a node that is up is admitting an edge.
    #[error("R11 no orphans: edge {0} is being admitted by a node that is down")]
    Orphan(EdgeId),
}

impl Tables {
    /// Checks every rule over all rows; the cost is proportional to their number.
    ///
    /// # Errors
    /// The first violated rule.
    pub fn check(&self) -> Result<(), Violation> {
        self.check_one_home()?;
        self.check_newest_wins()?;
        self.check_fenced()?;
        self.check_visible()?;
        self.check_gone()?;
        self.check_no_orphans()
    }

    fn check_one_home(&self) -> Result<(), Violation> {
        let mut taken: BTreeSet<Position> = BTreeSet::new();
        for (edge, row) in self.edges.iter() {
            let at = row.home.incarnation.0;
            let possible = row.home.epoch.0 < at.revision.0 && at.revision <= self.revision;
            if !possible || !taken.insert(at) {
                return Err(Violation::OneHome(edge, row.home));
            }
        }
        Ok(())
    }

    fn check_newest_wins(&self) -> Result<(), Violation> {
        let tokens = self.services.iter().filter(|(_, row)| row.instance != [0; 16]);
        let mut seen = BTreeSet::new();
        for (_, row) in tokens {
            if !seen.insert((&row.name, row.instance)) {
                return Err(Violation::Twice(row.service));
            }
        }
        Ok(())
    }

    fn check_fenced(&self) -> Result<(), Violation> {
        let mut epochs = BTreeSet::new();
        for (node, row) in &self.nodes {
            if row.epoch.0 > self.revision.0 || !epochs.insert(row.epoch) {
                return Err(Violation::Fenced(*node));
            }
        }
        Ok(())
    }

    fn check_visible(&self) -> Result<(), Violation> {
        let edges = self.edges.iter().map(|(_, row)| row.home);
        for home in edges.chain(self.services.iter().map(|(_, row)| row.home)) {
            let member = self.members.contains_key(&home.node);
            if !member || self.nodes.get(&home.node).is_none_or(|row| home.epoch > row.epoch) {
                return Err(Violation::Homeless(home));
            }
        }
        if self.edges.in_order() && self.services.agree() { Ok(()) } else { Err(Violation::Lost) }
    }

    fn check_gone(&self) -> Result<(), Violation> {
        let edges = self.edges.iter().filter_map(|(edge, _)| Some(self.edge(edge)?.home));
        let named = self.methods().flat_map(|(name, _)| self.method(name)).map(|row| row.home);
        for home in edges.chain(self.services().map(|row| row.home)).chain(named) {
            if self.nodes.get(&home.node).is_none_or(|row| row.down || row.epoch != home.epoch) {
                return Err(Violation::Shown(home));
            }
        }
        let mut on: BTreeMap<NodeId, usize> = BTreeMap::new();
        self.edges().for_each(|(_, row)| *on.entry(row.home.node).or_default() += 1);
        for node in self.nodes.keys() {
            let (counted, found) = (self.edge_count_on(*node), on.get(node).copied().unwrap_or(0));
            if counted != found {
                return Err(Violation::Count { counted, found });
            }
        }
        let (counted, found) = (self.edge_count(), on.values().sum());
        let all = self.edges.iter().count();
        if counted != found || all != self.edges.len() {
            return Err(Violation::Count { counted, found });
        }
        Ok(())
    }

    fn check_no_orphans(&self) -> Result<(), Violation> {
        let dead = self.admitting().find(|(_, home)| !self.is_live(home.node, home.epoch));
        dead.map_or(Ok(()), |(edge, _)| Err(Violation::Orphan(edge)))
    }
}
