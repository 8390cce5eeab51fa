//! The state of the cluster, and its possible next steps.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use limes_routing::{
    Batch, EdgeId, Effect, Event, Founder, Levels, NodeAddrs, NodeId, Revision, SessionNo, Tables, Verdict,
};
use stateright::{Model, Property};

use crate::node::{Node, online};
use crate::rules;

const NODES: u64 = 2;
const EDGES: u64 = 2;

/// How often each event may happen in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Bounds {
    /// An edge connects to a node.
    pub(crate) connects: u8,
    /// A connection ends.
    pub(crate) ends: u8,
    /// The leader proposes to declare a node down.
    pub(crate) downs: u8,
    /// A process crashes; it may restart.
    pub(crate) crashes: u8,
    /// A proposal commits a second time.
    pub(crate) again: u8,
    /// A snapshot replaces entries.
    pub(crate) jumps: u8,
    /// Suspended rows are dropped.
    pub(crate) drops: u8,
}

/// A fence that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// An end removes whatever row the edge has.
    RemovalById,
    /// A resume revives whatever row the edge has.
    ResumeById,
    /// Every batch counts as the next.
    NoNumbers,
    /// Every batch counts as of the live epoch.
    NoEpoch,
}

pub(crate) struct Protocol {
    pub(crate) bounds: Bounds,
    pub(crate) mutant: Option<Mutant>,
}

/// A proposal on its way to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sent {
    pub(crate) batch: Bytes,
    pub(crate) committed: bool,
}

/// A proposed batch, and what it does without the removed fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    proposed: Bytes,
    applied: Bytes,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// After the last entry of the log.
    pub(crate) tables: Arc<Tables>,
    /// Entries that some node has not applied yet; the last is the tables' revision.
    pub(crate) log: Vec<Entry>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) left: Bounds,
    /// The rule that the last entry violated.
    pub(crate) broken: Option<&'static str>,
    /// What the last entry did: not part of the state.
    pub(crate) last: Last,
}

/// The last entry and what it did.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Last {
    batch: Vec<Event>,
    verdicts: Vec<Verdict>,
    pub(crate) effects: Vec<Effect>,
}

impl Last {
    pub(crate) fn events(&self) -> impl Iterator<Item = (&Event, &Verdict)> {
        self.batch.iter().zip(&self.verdicts)
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.nodes.iter().for_each(|node| node.key().hash(hasher));
        self.tables.encode_snapshot().hash(hasher);
        (&self.log, &self.sent, &self.left, self.broken).hash(hasher);
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Connect(usize, EdgeId),
    End(usize, SessionNo),
    /// A proposal reaches the log.
    Commit(usize),
    /// A node applies its next entry.
    Apply(usize),
    /// A node installs a snapshot of the whole log.
    Jump(usize),
    Down(usize),
    Drop(usize),
    Crash(usize),
    Start(usize),
}

fn plain(event: Event) -> Batch {
    Batch { origin: None, time_ms: 0, events: vec![event] }
}

fn up(node: &Node) -> Batch {
    let (addrs, levels) = (NodeAddrs::default(), Levels { min: 1, max: 1 });
    plain(Event::NodeUp { node: node.id, boot: [node.boot; 16], addrs, levels })
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    /// All nodes are up and have applied everything.
    fn init_states(&self) -> Vec<State> {
        let founder = |node| Founder { node: NodeId(node), name: String::new(), mesh: String::new() };
        let founders = (1..=NODES).map(founder).collect();
        let mut tables = Tables::new();
        let made = Event::ClusterMade { cluster: [1; 16], key: Bytes::new(), founders };
        tables.apply(Revision(1), &plain(made));
        let tables = Arc::new(tables);
        let nodes = (1..=NODES).map(|id| Node::start(NodeId(id), 1, Arc::clone(&tables))).collect();
        let (log, sent, last) = Default::default();
        let mut state = State { tables, log, nodes, sent, left: self.bounds, broken: None, last };
        state.settle();
        while let Some(at) = state.sent.iter().position(|sent| !sent.committed) {
            self.commit(&mut state, at);
            (0..state.nodes.len()).for_each(|node| state.apply(node));
        }
        state.sent.clear();
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let left = &state.left;
        for (at, sent) in state.sent.iter().enumerate() {
            if !sent.committed || left.again > 0 {
                actions.push(Action::Commit(at));
            }
        }
        // Nodes are symmetric: the first one that acts is node 1.
        let nothing_yet = *left == self.bounds && state.sent.is_empty();
        for (at, node) in state.nodes.iter().enumerate().take(if nothing_yet { 1 } else { usize::MAX }) {
            if !node.alive {
                actions.push(Action::Start(at));
            } else {
                self.actions_of(state, at, node, actions);
            }
            let row = state.tables.node(node.id);
            if left.downs > 0 && row.is_some_and(|row| !row.down) {
                actions.push(Action::Down(at));
            }
            if left.drops > 0 && row.is_some_and(|row| row.down) && state.tables.has_suspended(node.id) {
                actions.push(Action::Drop(at));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let left = &mut next.left;
        match action {
            Action::Connect(node, edge) => {
                left.connects -= 1;
                next.nodes[node].connect(edge);
            }
            Action::End(node, session) => {
                left.ends -= 1;
                next.nodes[node].close(session);
            }
            Action::Commit(at) => self.commit(&mut next, at),
            Action::Apply(node) => next.apply(node),
            Action::Jump(node) => {
                left.jumps -= 1;
                let tables = Arc::clone(&next.tables);
                next.nodes[node].jump(&tables);
            }
            Action::Down(node) => {
                left.downs -= 1;
                let row = next.tables.node(next.nodes[node].id)?;
                let (node, epoch) = (next.nodes[node].id, row.epoch);
                next.send(&plain(Event::NodeDown { node, epoch }));
            }
            Action::Drop(node) => {
                left.drops -= 1;
                let row = next.tables.node(next.nodes[node].id)?;
                let (node, epoch) = (next.nodes[node].id, row.epoch);
                next.send(&plain(Event::SuspendedDropped { node, epoch }));
            }
            Action::Crash(node) => {
                left.crashes -= 1;
                next.nodes[node].crash();
            }
            Action::Start(node) => {
                let Node { id, boot, .. } = next.nodes[node];
                next.nodes[node] = Node::start(id, boot + 1, Arc::clone(&next.tables));
            }
        }
        if !matches!(action, Action::Commit(_)) {
            next.last = Last::default();
        }
        next.settle();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        rules::properties()
    }
}

impl Protocol {
    fn actions_of(&self, state: &State, at: usize, node: &Node, actions: &mut Vec<Action>) {
        let left = &state.left;
        if node.view.revision() < state.tables.revision() {
            actions.push(Action::Apply(at));
            if left.jumps > 0 {
                actions.push(Action::Jump(at));
            }
        }
        if left.connects > 0 && node.epoch.is_some() {
            // Edges are symmetric too.
            let named = if left.connects == self.bounds.connects { 1 } else { EDGES };
            actions.extend((1..=named).map(|edge| Action::Connect(at, EdgeId(edge))));
        }
        if left.ends > 0 {
            actions.extend(node.sessions.keys().map(|session| Action::End(at, *session)));
        }
        if left.crashes > 0 {
            actions.push(Action::Crash(at));
        }
    }

    fn commit(&self, state: &mut State, at: usize) {
        let sent = &mut state.sent[at];
        if std::mem::replace(&mut sent.committed, true) {
            state.left.again -= 1;
        }
        let proposed = decode(&sent.batch);
        let mut batch = proposed.clone();
        if let Some(mutant) = self.mutant {
            mutant.change(&state.tables, &mut batch);
        }
        let before = Arc::clone(&state.tables);
        let tables = Arc::make_mut(&mut state.tables);
        let revision = Revision(tables.revision().0 + 1);
        let applied = tables.apply(revision, &batch);
        state.log.push(Entry { proposed: proposed.encode(), applied: batch.encode() });
        state.broken = state.broken.or(rules::step(&before, &proposed, &applied.verdicts, &state.tables));
        state.last = Last { batch: proposed.events, verdicts: applied.verdicts, effects: applied.effects };
    }
}

fn decode(bytes: &Bytes) -> Batch {
    Batch::decode(bytes.clone()).expect("own batch")
}

impl State {
    fn send(&mut self, batch: &Batch) {
        self.sent.push(Sent { batch: batch.encode(), committed: false });
    }

    fn apply(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let behind = (self.tables.revision().0 - node.view.revision().0) as usize;
        if behind > 0 {
            let entry = self.log[self.log.len() - behind].clone();
            let revision = Revision(node.view.revision().0 + 1);
            node.apply(revision, &decode(&entry.applied), &decode(&entry.proposed));
        }
    }

    /// Steps that happen immediately: nodes send proposals, and entries that all have applied are dropped.
    fn settle(&mut self) {
        for at in 0..self.nodes.len() {
            if let Some(batch) = self.nodes[at].propose() {
                self.send(&batch);
            }
            let node = &self.nodes[at];
            let up = up(node).encode();
            let on_its_way = self.sent.iter().any(|sent| !sent.committed && sent.batch == up)
                || self.log[self.log.len() - self.behind(node)..].iter().any(|entry| entry.proposed == up);
            if node.alive && node.epoch.is_none() && !on_its_way {
                self.sent.push(Sent { batch: up, committed: false });
            }
        }
        let longest = self.nodes.iter().filter(|node| node.alive).map(|node| self.behind(node)).max();
        self.log.drain(..self.log.len() - longest.unwrap_or(0));
        if self.left.again == 0 {
            self.sent.retain(|sent| !sent.committed);
        }
        self.sent.sort();
    }

    fn behind(&self, node: &Node) -> usize {
        if node.alive { (self.tables.revision().0 - node.view.revision().0) as usize } else { 0 }
    }
}

impl Mutant {
    /// What the batch would do without the fence.
    fn change(self, tables: &Tables, batch: &mut Batch) {
        let Some(origin) = &mut batch.origin else { return };
        let Some(row) = tables.node(origin.node) else { return };
        if self == Mutant::NoEpoch && !row.down {
            (origin.epoch, origin.number) = (row.epoch, row.last + 1);
        }
        if self == Mutant::NoNumbers && origin.epoch == row.epoch {
            origin.number = row.last + 1;
        }
        let node = origin.node;
        for event in &mut batch.events {
            match event {
                Event::EdgeOffline { edge, .. } if self == Mutant::RemovalById => {
                    *event = Event::Kick { edge: *edge }
                }
                Event::EdgeResumed { edge, incarnation } if self == Mutant::ResumeById => {
                    let Some(home) = tables.edge_row(*edge).map(|row| row.home) else { continue };
                    if home.node == node {
                        *incarnation = home.incarnation;
                    } else {
                        *event = online(*edge, home.session);
                    }
                }
                _ => {}
            }
        }
    }
}
