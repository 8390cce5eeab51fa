//! The rows of services and their indexes by method, topic and instance; rows and indexes change together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{Home, NodeId, ServiceId, SessionNo};
use crate::rows::ServiceRow;

/// A service's session, ordered by service, node and session.
pub(crate) type ServiceKey = (ServiceId, NodeId, SessionNo);

type Index<K> = BTreeMap<K, BTreeSet<ServiceKey>>;

/// One of a session's two lists of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Method,
    Topic,
}

/// All sessions of services, live and suspended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sessions {
    rows: BTreeMap<ServiceKey, Arc<ServiceRow>>,
    methods: Index<Box<str>>,
    topics: Index<Box<str>>,
    /// By instance token; sessions without one are not in it.
    instances: Index<[u8; 16]>,
}

pub(crate) fn key(row: &ServiceRow) -> ServiceKey {
    (row.service, row.home.node, row.home.session)
}

fn enter<K: Ord + Clone>(index: &mut Index<K>, name: &K, key: ServiceKey) {
    match index.get_mut(name) {
        Some(keys) => {
            keys.insert(key);
        }
        None => {
            index.insert(name.clone(), BTreeSet::from([key]));
        }
    }
}

fn leave<K: Ord>(index: &mut Index<K>, name: &K, key: ServiceKey) {
    if let Some(keys) = index.get_mut(name) {
        keys.remove(&key);
        if keys.is_empty() {
            index.remove(name);
        }
    }
}

impl Sessions {
    pub(crate) fn get(&self, key: ServiceKey) -> Option<&ServiceRow> {
        self.rows.get(&key).map(|row| &**row)
    }

    /// All rows in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ServiceKey, &ServiceRow)> {
        self.rows.iter().map(|(key, row)| (*key, &**row))
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Puts a row in, in place of an older one of the same key.
    pub(crate) fn insert(&mut self, row: ServiceRow) {
        let key = key(&row);
        self.remove(key);
        row.methods.iter().for_each(|name| enter(&mut self.methods, name, key));
        row.topics.iter().for_each(|name| enter(&mut self.topics, name, key));
        if row.instance != [0; 16] {
            enter(&mut self.instances, &row.instance, key);
        }
        self.rows.insert(key, Arc::new(row));
    }

    pub(crate) fn remove(&mut self, key: ServiceKey) -> Option<Arc<ServiceRow>> {
        let row = self.rows.remove(&key)?;
        row.methods.iter().for_each(|name| leave(&mut self.methods, name, key));
        row.topics.iter().for_each(|name| leave(&mut self.topics, name, key));
        leave(&mut self.instances, &row.instance, key);
        Some(row)
    }

    /// Gives a row another epoch and incarnation.
    pub(crate) fn revive(&mut self, key: ServiceKey, home: Home) {
        if let Some(row) = self.rows.get_mut(&key) {
            Arc::make_mut(row).home = home;
        }
    }

    /// Adds or removes names of a row; gives whether that changed anything.
    pub(crate) fn name(&mut self, key: ServiceKey, kind: Kind, names: &[Box<str>], add: bool) -> bool {
        let Some(row) = self.rows.get_mut(&key) else { return false };
        let row = Arc::make_mut(row);
        let (held, index) = match kind {
            Kind::Method => (&mut row.methods, &mut self.methods),
            Kind::Topic => (&mut row.topics, &mut self.topics),
        };
        let mut changed = false;
        for name in names {
            if add && held.insert(name.clone()) {
                enter(index, name, key);
                changed = true;
            } else if !add && held.remove(name) {
                leave(index, name, key);
                changed = true;
            }
        }
        changed
    }

    /// The sessions that have a name, by service.
    pub(crate) fn offering(&self, kind: Kind, name: &str) -> impl Iterator<Item = &ServiceRow> {
        let keys = self.index(kind).get(name).into_iter().flatten();
        keys.filter_map(|key| self.get(*key))
    }

    /// All names of one kind, with their sessions.
    pub(crate) fn index(&self, kind: Kind) -> &Index<Box<str>> {
        match kind {
            Kind::Method => &self.methods,
            Kind::Topic => &self.topics,
        }
    }

    /// The sessions of one instance of the service with this name.
    pub(crate) fn instance(&self, name: &str, instance: &[u8; 16]) -> Vec<ServiceKey> {
        let keys = self.instances.get(instance).into_iter().flatten().copied();
        keys.filter(|key| self.get(*key).is_some_and(|row| &*row.name == name)).collect()
    }

    /// Whether the indexes agree with the rows.
    pub(crate) fn agree(&self) -> bool {
        let mut fresh = Sessions::default();
        self.iter().for_each(|(_, row)| fresh.insert(row.clone()));
        fresh == *self
    }
}
