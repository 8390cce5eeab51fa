//! What must always hold, each rule by its name in the design.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{EdgeId, Home, NodeId, Position, ServiceId};
use crate::tables::Tables;

/// A rule that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// R1: a session's generation comes from an entry of its node's life, and from no other session.
    #[error("R1 one home: edge {0} is at {1:?}, which cannot be")]
    OneHome(EdgeId, Home),
    /// R2: of two sessions of one instance of a service the newer one has removed the older.
    #[error("R2 newest wins: service {0} has an instance with two sessions")]
    Twice(ServiceId),
    /// R3: a node's epoch comes from an entry that has been applied, and from no other node's.
    #[error("R3 fenced: node {0} lives in an epoch that cannot be its own")]
    Fenced(NodeId),
    /// R4: what is routed to is on a member that has been up.
    #[error("R4 visible: a row at {0:?}, which is no member that has been up")]
    Homeless(Home),
    /// R4: what is in a row is found by its name, and nothing else is.
    #[error("R4 visible: what lookups find is not what the rows say")]
    Lost,
    /// R5: nothing that is looked up or counted belongs to a node that is down.
    #[error("R5 gone: a lookup shows a row at {0:?}, whose life is over")]
    Shown(Home),
    /// R5: the numbers of rows agree with the rows.
    #[error("R5 gone: {counted} live edges are counted, {found} are there")]
    Count {
        /// By the counters.
        counted: usize,
        /// By looking.
        found: usize,
    },
    /// R11: only a node that is up is admitting an edge.
    #[error("R11 no ghosts: edge {0} is being admitted by a node that is down")]
    Ghost(EdgeId),
}

impl Tables {
    /// Checks every rule over all rows; the cost is in proportion to them.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), Violation> {
        self.check_one_home()?;
        self.check_newest_wins()?;
        self.check_fenced()?;
        self.check_visible()?;
        self.check_gone()?;
        self.check_no_ghosts()
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

    fn check_no_ghosts(&self) -> Result<(), Violation> {
        let dead = self.admitting().find(|(_, home)| !self.is_live(home.node, home.epoch));
        dead.map_or(Ok(()), |(edge, _)| Err(Violation::Ghost(edge)))
    }
}
