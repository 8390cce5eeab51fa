//! The services of the whole cluster by method, topic and name: read by every call, replaced whole
//! when a registration changes.

use std::collections::{BTreeMap, HashMap};

use limes_routing::{Epoch, Incarnation, NodeId, ServiceId, SessionNo, Tables, pick};

use crate::mail::Target;

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
    pub(crate) fn target(&self) -> Target {
        Target::Service(self.service, self.session, self.epoch)
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

/// Live service sessions by what they offer, those of one service beside each other: methods ordered
/// by the digits of the service's id, topics by when the service came, names by its id.
#[derive(Debug, Default)]
pub(crate) struct ServiceIndex {
    methods: HashMap<String, Vec<Candidate>>,
    topics: HashMap<String, Vec<Candidate>>,
    names: BTreeMap<String, Vec<Candidate>>,
}

impl ServiceIndex {
    /// Who offers a method.
    pub(crate) fn method(&self, name: &str) -> &[Candidate] {
        self.methods.get(name).map_or(&[], Vec::as_slice)
    }

    /// Who takes a topic.
    pub(crate) fn topic(&self, name: &str) -> &[Candidate] {
        self.topics.get(name).map_or(&[], Vec::as_slice)
    }

    /// Who goes by a name.
    pub(crate) fn name(&self, name: &str) -> &[Candidate] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// The index of these tables.
    pub(crate) fn of(tables: &Tables) -> Self {
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
        index
    }
}
