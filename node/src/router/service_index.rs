//! The services of the whole cluster by method, topic and name: read by every call, replaced whole
//! when a registration changes.

use std::collections::{BTreeMap, HashMap};

use limes_routing::{Epoch, Incarnation, NodeId, ServiceId, SessionNo, Tables, pick};

use super::message::Destination;

/// One live session of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The service.
    pub(crate) service: ServiceId,
    /// The node that holds the session.
    pub(crate) node: NodeId,
    /// That node's epoch.
    pub(crate) epoch: Epoch,
    /// The session there.
    pub(crate) session: SessionNo,
}

impl Candidate {
    /// The session, as requests are addressed to it.
    pub(crate) fn destination(&self) -> Destination {
        Destination::Service(self.service, self.session, self.epoch)
    }
}

impl pick::Candidate for Candidate {
    fn service(&self) -> ServiceId {
        self.service
    }

    fn node(&self) -> NodeId {
        self.node
    }
}

/// Live service sessions by what they offer, those of one service adjacent: methods ordered
/// by the digits of the service's id, topics by when the service came, names by its id.
#[derive(Debug, Default)]
pub(crate) struct ServiceIndex {
    methods: HashMap<String, Vec<Candidate>>,
    topics: HashMap<String, Vec<Candidate>>,
    names: BTreeMap<String, Vec<Candidate>>,
    /// The same two by their names in lower case, if case is to be ignored.
    folded: Option<Folded>,
}

#[derive(Debug, Default)]
struct Folded {
    methods: HashMap<String, Vec<Candidate>>,
    names: HashMap<String, Vec<Candidate>>,
}

/// Something that a service offers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Offer {
    /// To answer calls of a method.
    Method(String),
    /// To take messages of a topic.
    Topic(String),
    /// To take streams by its name.
    Name(String),
}

/// The topic of services that take every message which no other service takes.
pub(crate) const ANY_TOPIC: &str = "*";

fn list<'a>(map: &'a HashMap<String, Vec<Candidate>>, name: &str) -> Option<&'a [Candidate]> {
    map.get(name).map(Vec::as_slice)
}

impl ServiceIndex {
    /// The sessions that offer a method.
    pub(crate) fn method(&self, name: &str) -> &[Candidate] {
        let folded = || list(&self.folded.as_ref()?.methods, &name.to_ascii_lowercase());
        list(&self.methods, name).or_else(folded).unwrap_or_default()
    }

    /// The sessions that take a topic: those that subscribed to it, otherwise those that take any topic.
    pub(crate) fn topic(&self, name: &str) -> &[Candidate] {
        list(&self.topics, name).or_else(|| list(&self.topics, ANY_TOPIC)).unwrap_or_default()
    }

    /// The sessions of services with a name.
    pub(crate) fn name(&self, name: &str) -> &[Candidate] {
        let folded = || list(&self.folded.as_ref()?.names, &name.to_ascii_lowercase());
        self.names.get(name).map(Vec::as_slice).or_else(folded).unwrap_or_default()
    }

    /// What this index has and the next one has not.
    pub(crate) fn lost(&self, next: &ServiceIndex) -> Vec<Offer> {
        let methods = self.methods.keys().filter(|name| !next.methods.contains_key(*name));
        let topics = self.topics.keys().filter(|name| !next.topics.contains_key(*name));
        let names = self.names.keys().filter(|name| !next.names.contains_key(*name));
        let methods = methods.cloned().map(Offer::Method);
        methods.chain(topics.cloned().map(Offer::Topic)).chain(names.cloned().map(Offer::Name)).collect()
    }

    /// The index of these tables; `ignore_case` is the setting `exchange.ignore_case`.
    pub(crate) fn of(tables: &Tables, ignore_case: bool) -> Self {
        let mut index = ServiceIndex::default();
        let mut since: HashMap<ServiceId, Incarnation> = HashMap::new();
        for row in tables.services() {
            let candidate = Candidate {
                service: row.service,
                node: row.home.node,
                epoch: row.home.epoch,
                session: row.home.session,
            };
            for method in &row.methods {
                index.methods.entry(method.to_string()).or_default().push(candidate);
            }
            for topic in &row.topics {
                index.topics.entry(topic.to_string()).or_default().push(candidate);
            }
            index.names.entry(row.name.to_string()).or_default().push(candidate);
            let first = since.entry(row.service).or_insert(row.home.incarnation);
            *first = row.home.incarnation.min(*first);
        }
        for list in index.methods.values_mut() {
            // The reference's order, for its hash: by the id's decimal digits, so 10 before 9.
            list.sort_by_cached_key(|candidate| candidate.service.0.to_string());
        }
        for list in index.topics.values_mut() {
            list.sort_by_key(|candidate| since.get(&candidate.service).copied());
        }
        index.folded = ignore_case.then(|| Folded::of(&index));
        index
    }
}

impl Folded {
    fn of(index: &ServiceIndex) -> Self {
        let mut folded = Folded::default();
        for (name, list) in &index.methods {
            folded.methods.entry(name.to_ascii_lowercase()).or_default().extend(list);
        }
        for (name, list) in &index.names {
            folded.names.entry(name.to_ascii_lowercase()).or_default().extend(list);
        }
        for list in folded.methods.values_mut() {
            list.sort_by_cached_key(|candidate| (candidate.service.0.to_string(), candidate.session));
            list.dedup();
        }
        // The sessions of one service must be adjacent.
        folded.names.values_mut().for_each(|list| list.sort_by_key(|one| (one.service, one.session)));
        folded
    }
}

#[cfg(test)]
mod tests {
    use limes_routing::pick::{Choice, Policy, pick};
    use limes_routing::{Batch, Event, Founder, Levels, NodeAddrs, Origin, Revision};

    use super::*;

    /// One node with services of these ids, which come in this order and offer and take the same.
    fn tables(services: &[u64]) -> Tables {
        let mut tables = Tables::new();
        let node = NodeId(1);
        let founders = vec![Founder { node, name: "node-1".into(), mesh: String::new() }];
        let made = Event::ClusterMade { cluster: [1; 16], key: vec![1; 32].into(), founders };
        let levels = Levels { min: 1, max: 1 };
        let up = Event::NodeUp { node, boot: [1; 16], addrs: NodeAddrs::default(), levels };
        for (at, event) in [made, up].into_iter().enumerate() {
            let batch = Batch { origin: None, time_ms: 0, events: vec![event] };
            tables.apply(Revision(at as u64 + 1), &batch);
        }
        let epoch = tables.live_epoch(node).unwrap();
        for (at, service) in services.iter().enumerate() {
            let (service, session) = (ServiceId(*service), SessionNo(at as u64 + 1));
            let (meta, addr) = (bytes::Bytes::new(), "".into());
            let events = vec![
                Event::ServiceOnline { service, session, name: "svc".into(), instance: [0; 16], meta, addr },
                Event::MethodsRegistered { service, session, names: vec!["m".into()] },
                Event::TopicsSubscribed { service, session, names: vec!["t".into()] },
            ];
            let number = at as u64 + 1;
            let batch = Batch { origin: Some(Origin { node, epoch, number }), time_ms: 0, events };
            tables.apply(Revision(10 + at as u64), &batch);
        }
        tables
    }

    #[test]
    fn star_takes_the_remaining_topics_and_case_counts_unless_it_is_ignored() {
        let mut tables = tables(&[1, 2]);
        let node = NodeId(1);
        let (epoch, names) = (tables.live_epoch(node).unwrap(), |name: &str| vec![name.into()]);
        let (service, session) = (ServiceId(2), SessionNo(2));
        let events = vec![
            Event::TopicsSubscribed { service, session, names: names("*") },
            Event::MethodsRegistered { service, session, names: names("M") },
        ];
        let batch = Batch { origin: Some(Origin { node, epoch, number: 3 }), time_ms: 0, events };
        tables.apply(Revision(20), &batch);
        let ids = |list: &[Candidate]| list.iter().map(|one| one.service.0).collect::<Vec<_>>();
        let exact = ServiceIndex::of(&tables, false);
        assert_eq!(ids(exact.topic("t")), [1, 2], "subscribers of any topic are left out");
        assert_eq!(ids(exact.topic("other")), [2]);
        assert_eq!(ids(exact.method("M")), [2]);
        assert!(exact.name("SVC").is_empty() && exact.method("x").is_empty());
        let folded = ServiceIndex::of(&tables, true);
        assert_eq!((ids(folded.name("SVC")), ids(folded.method("M"))), (vec![1, 2], vec![2]));
        let batch = Event::MethodsWithdrawn { service, session, names: names("M") };
        let batch =
            Batch { origin: Some(Origin { node, epoch, number: 4 }), time_ms: 0, events: vec![batch] };
        tables.apply(Revision(21), &batch);
        assert_eq!(ids(ServiceIndex::of(&tables, true).method("M")), [1, 2], "the sessions of m");
        assert!(ServiceIndex::of(&tables, true).topic("T").len() == 1, "topics are exact: * takes it");
    }

    #[test]
    fn order_and_selection_are_those_of_the_reference() {
        let index = ServiceIndex::of(&tables(&[100, 9, 10, 9]), false);
        let ids = |list: &[Candidate]| list.iter().map(|one| one.service.0).collect::<Vec<_>>();
        assert_eq!(ids(index.method("m")), [10, 100, 9, 9], "by the decimal digits");
        assert_eq!(ids(index.topic("t")), [100, 9, 9, 10], "in the order in which they connected");
        let selected = |list: &[Candidate], edge: u64| {
            let choice = Choice { policy: Policy::Modulo, key: edge, local: NodeId(1), near: false };
            pick(list, choice, |_| true).map(|one| one.service.0)
        };
        let edge = 0x6b03_e276_ec87_d735_u64;
        let at = (edge % 3) as usize;
        assert_eq!(selected(index.method("m"), edge), Some([10, 100, 9][at]));
        assert_eq!(selected(index.topic("t"), edge), Some([100, 9, 10][at]));
    }
}
