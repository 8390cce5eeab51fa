//! A naive model of the rules: one map, no indexes, no sharing. The tables must agree with it.

use std::collections::{BTreeMap, BTreeSet};

use limes_routing::{
    Batch, EdgeId, Epoch, Event, Home, Incarnation, NodeId, Origin, Position, Revision, ServiceId, SessionNo,
    Tables,
};

#[derive(Debug, Default)]
pub(crate) struct Naive {
    members: BTreeMap<NodeId, [u8; 16]>,
    /// Epoch, boot nonce, whether it is up, last number.
    nodes: BTreeMap<NodeId, (Epoch, [u8; 16], bool, u64)>,
    edges: BTreeMap<EdgeId, (Home, bool)>,
    services: BTreeMap<(ServiceId, NodeId, SessionNo), Service>,
    admitting: BTreeMap<(EdgeId, NodeId, SessionNo), Incarnation>,
    pending: BTreeSet<(EdgeId, Incarnation)>,
    made: bool,
}

#[derive(Debug)]
struct Service {
    home: Home,
    identity: (Box<str>, [u8; 16]),
    methods: BTreeSet<Box<str>>,
    topics: BTreeSet<Box<str>>,
}

impl Naive {
    /// Applies an entry to the model.
    pub(crate) fn apply(&mut self, revision: Revision, batch: &Batch) {
        if let Some(Origin { node, epoch, number }) = batch.origin {
            match self.nodes.get_mut(&node) {
                Some((live, _, true, last)) if *live == epoch && *last + 1 == number => *last = number,
                _ => return,
            }
        }
        for (ordinal, event) in batch.events.iter().enumerate() {
            let at = Incarnation(Position { revision, ordinal: ordinal as u32 });
            if let Some(Origin { node, epoch, .. }) = batch.origin
                && !matches!(self.nodes.get(&node), Some((live, _, true, _)) if *live == epoch)
            {
                // The node has reported its end in this batch.
                return;
            }
            self.of_cluster(at, event);
            if let Some(origin) = batch.origin {
                self.of_node(at, origin, event);
            }
        }
    }

    fn of_cluster(&mut self, at: Incarnation, event: &Event) {
        let revision = at.0.revision.0;
        match event {
            Event::ClusterMade { founders, .. } if !self.made => {
                self.made = true;
                self.members.extend(founders.iter().map(|founder| (founder.node, [0; 16])));
            }
            Event::MemberAdded { nonce, .. } => {
                let free = at.0.ordinal == 0 && !self.members.contains_key(&NodeId(revision));
                if free && !self.members.values().any(|known| known == nonce) {
                    self.members.insert(NodeId(revision), *nonce);
                }
            }
            Event::MemberRemoved { node } if self.members.remove(node).is_some() => {
                self.nodes.remove(node);
                self.forget(*node, None);
            }
            Event::NodeUp { node, boot, .. } if self.members.contains_key(node) && at.0.ordinal == 0 => {
                let held = self.nodes.get(node).copied();
                if matches!(held, Some((_, same, true, _)) if same == *boot) {
                    return;
                }
                if held.is_none_or(|(_, older, _, _)| older != *boot) {
                    self.forget(*node, None);
                }
                self.nodes.insert(*node, (Epoch(revision), *boot, true, 0));
            }
            Event::NodeDown { node, epoch } => {
                if let Some((live, _, is_up @ true, _)) = self.nodes.get_mut(node)
                    && live == epoch
                {
                    *is_up = false;
                    self.stop_admitting(*node);
                }
            }
            Event::SuspendedDropped { node, epoch } => {
                if matches!(self.nodes.get(node), Some((last, _, false, _)) if last == epoch) {
                    self.forget(*node, None);
                }
            }
            Event::Kick { edge } if self.live_edges().contains_key(edge) => self.drop_edge(*edge),
            Event::KickService { service } => {
                let live = |key: &(ServiceId, NodeId, SessionNo), row: &Service| {
                    key.0 == *service && self.is_live(&row.home)
                };
                let gone: Vec<_> =
                    self.services.iter().filter(|(key, row)| live(key, row)).map(|(key, _)| *key).collect();
                gone.iter().for_each(|key| drop(self.services.remove(key)));
            }
            Event::CallbackSettled { edge, incarnation } => {
                self.pending.remove(&(*edge, *incarnation));
            }
            _ => {}
        }
    }

    fn of_node(&mut self, at: Incarnation, Origin { node, epoch, .. }: Origin, event: &Event) {
        let home = |session: SessionNo| Home { node, epoch, session, incarnation: at };
        let held = |edge: &EdgeId, of: &Incarnation, edges: &BTreeMap<EdgeId, (Home, bool)>| {
            edges.get(edge).is_some_and(|(home, _)| home.node == node && home.incarnation == *of)
        };
        match event {
            Event::ResumeEnd {} => self.forget(node, Some(epoch)),
            Event::EdgeAdmitting { edge, session } => {
                self.admitting.insert((*edge, node, *session), at);
            }
            Event::EdgeRefused { edge, session } => {
                self.admitting.remove(&(*edge, node, *session));
            }
            Event::EdgeOnline { edge, session, offline_callback, .. } => {
                self.admitting.remove(&(*edge, node, *session));
                self.drop_edge(*edge);
                self.edges.insert(*edge, (home(*session), *offline_callback));
            }
            Event::EdgeOffline { edge, incarnation } if held(edge, incarnation, &self.edges) => {
                self.drop_edge(*edge);
            }
            Event::EdgeResumed { edge, incarnation } if held(edge, incarnation, &self.edges) => {
                let (row, _) = self.edges.get_mut(edge).expect("held");
                *row = home(row.session);
            }
            Event::CallbackOwed { edge, incarnation, .. } => {
                self.pending.insert((*edge, *incarnation));
            }
            Event::ServiceOnline { service, session, name, instance, .. } => {
                let identity = (name.clone(), *instance);
                self.services.retain(|_, row| *instance == [0; 16] || row.identity != identity);
                let (methods, topics) = Default::default();
                let row = Service { home: home(*session), identity, methods, topics };
                self.services.insert((*service, node, *session), row);
            }
            Event::ServiceOffline { service, session } => {
                self.services.remove(&(*service, node, *session));
            }
            Event::ServiceResumed { service, session }
            | Event::MethodsRegistered { service, session, .. }
            | Event::MethodsWithdrawn { service, session, .. }
            | Event::TopicsSubscribed { service, session, .. }
            | Event::TopicsUnsubscribed { service, session, .. } => {
                if let Some(row) = self.services.get_mut(&(*service, node, *session)) {
                    if row.home.epoch != epoch || matches!(event, Event::ServiceResumed { .. }) {
                        row.home = home(*session);
                    }
                    row.name(event);
                }
            }
            _ => {}
        }
    }

    fn drop_edge(&mut self, edge: EdgeId) {
        if let Some((home, true)) = self.edges.remove(&edge) {
            self.pending.insert((edge, home.incarnation));
        }
    }

    fn stop_admitting(&mut self, node: NodeId) {
        let over = |key: &(EdgeId, NodeId, SessionNo)| key.1 == node;
        self.pending.extend(self.admitting.iter().filter(|(key, _)| over(key)).map(|(key, at)| (key.0, *at)));
        self.admitting.retain(|key, _| !over(key));
    }

    fn forget(&mut self, node: NodeId, but: Option<Epoch>) {
        if but.is_none() {
            self.stop_admitting(node);
        }
        let goes = |home: &Home| home.node == node && Some(home.epoch) != but;
        let gone: Vec<_> =
            self.edges.iter().filter(|(_, (home, _))| goes(home)).map(|(edge, _)| *edge).collect();
        gone.into_iter().for_each(|edge| self.drop_edge(edge));
        self.services.retain(|_, row| !goes(&row.home));
    }

    fn is_live(&self, home: &Home) -> bool {
        matches!(self.nodes.get(&home.node), Some((epoch, _, true, _)) if *epoch == home.epoch)
    }

    pub(crate) fn live_edges(&self) -> BTreeMap<EdgeId, Home> {
        let live = self.edges.iter().filter(|(_, (home, _))| self.is_live(home));
        live.map(|(edge, (home, _))| (*edge, *home)).collect()
    }

    /// Panics if the tables show anything else.
    pub(crate) fn compare(&self, tables: &Tables) {
        let shown: BTreeMap<EdgeId, Home> = tables.edges().map(|(edge, row)| (edge, row.home)).collect();
        assert_eq!(shown, self.live_edges(), "live edges");
        assert_eq!(tables.edge_count(), shown.len(), "the number of live edges");
        assert_eq!(tables.edge_rows(), self.edges.len(), "rows, suspended ones included");
        let live = |row: &&Service| self.is_live(&row.home);
        let sessions: BTreeSet<Home> = self.services.values().filter(live).map(|row| row.home).collect();
        assert_eq!(tables.services().map(|row| row.home).collect::<BTreeSet<_>>(), sessions, "services");
        for name in ["n0", "n1", "n2", "n3"] {
            let offer = self.services.values().filter(live).filter(|row| row.methods.contains(name));
            let offer: BTreeSet<Home> = offer.map(|row| row.home).collect();
            assert_eq!(tables.method(name).map(|row| row.home).collect::<BTreeSet<_>>(), offer, "{name}");
            let take = self.services.values().filter(live).filter(|row| row.topics.contains(name));
            let take: BTreeSet<Home> = take.map(|row| row.home).collect();
            assert_eq!(tables.topic(name).map(|row| row.home).collect::<BTreeSet<_>>(), take, "{name}");
        }
        let pending: BTreeSet<_> =
            tables.pending_callbacks().map(|callback| (callback.edge, callback.incarnation)).collect();
        assert_eq!(pending, self.pending, "pending callbacks");
        for node in self.nodes.keys() {
            let dead = |home: &Home| home.node == *node && !self.is_live(home);
            let held = self.edges.values().any(|(home, _)| dead(home))
                || self.services.values().any(|row| dead(&row.home));
            assert_eq!(tables.has_suspended(*node), held, "node {node} has suspended rows");
        }
    }
}

impl Service {
    fn name(&mut self, event: &Event) {
        match event {
            Event::MethodsRegistered { names, .. } => self.methods.extend(names.iter().cloned()),
            Event::MethodsWithdrawn { names, .. } => {
                names.iter().for_each(|name| _ = self.methods.remove(name))
            }
            Event::TopicsSubscribed { names, .. } => self.topics.extend(names.iter().cloned()),
            Event::TopicsUnsubscribed { names, .. } => {
                names.iter().for_each(|name| _ = self.topics.remove(name))
            }
            _ => {}
        }
    }
}
