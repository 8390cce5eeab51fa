//! The rows of the tables.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::codec::{DecodeError, Field, records};
use crate::event::{Levels, NodeAddrs};
use crate::id::{EdgeId, Epoch, Home, Incarnation, NodeId, ServiceId};

/// The cluster itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub id: [u8; 16],
    /// The level of all nodes.
    pub level: u32,
    /// The keys that sign tickets, newest first. Secret.
    pub keys: Vec<Bytes>,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The address of its mesh port when it joined.
    pub mesh: String,
    /// Identifies its attempt to join; zeros for founders.
    pub nonce: [u8; 16],
    /// Whether it is a voter.
    pub voter: bool,
}

/// A member's latest epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its epoch.
    pub epoch: Epoch,
    /// Identifies its process.
    pub boot: [u8; 16],
    /// Whether it was declared down in this epoch.
    pub down: bool,
    /// The number of its last batch in this epoch; 0 for none.
    pub last: u64,
    /// Whether an operator drains it.
    pub draining: bool,
    /// Its addresses.
    pub addrs: NodeAddrs,
    /// The levels that it supports.
    pub levels: Levels,
}

/// An edge's session, borrowed from the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeRow<'a> {
    /// Where the session is.
    pub home: Home,
    /// The edge's meta.
    pub meta: &'a [u8],
    /// Its address.
    pub addr: &'a str,
    /// When the session began, in milliseconds since 1970 by the clock of its node: for people, never compared.
    pub born_ms: u64,
    /// Whether the end of the session is due as a callback.
    pub offline_callback: bool,
}

/// A service's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRow {
    /// The service.
    pub service: ServiceId,
    /// Where the session is.
    pub home: Home,
    /// Its name.
    pub name: Box<str>,
    /// Identifies the instance; zeros for none.
    pub instance: [u8; 16],
    /// The service's meta.
    pub meta: Bytes,
    /// Its address.
    pub addr: Box<str>,
    /// When the session began, in milliseconds since 1970 by the clock of its node: for people, never compared.
    pub born_ms: u64,
    /// The methods that it offers.
    pub methods: BTreeSet<Box<str>>,
    /// The topics that it subscribes to.
    pub topics: BTreeSet<Box<str>>,
}

/// A pending callback about the end of an edge's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingCallback {
    /// The edge.
    pub edge: EdgeId,
    /// The session that has ended.
    pub incarnation: Incarnation,
    /// The node that held the session; it makes the callback while it is up.
    pub node: NodeId,
    /// The edge's meta.
    pub meta: Bytes,
    /// Its address.
    pub addr: Box<str>,
}

records! {
    Cluster { id, level, keys }
    Member { node, name, mesh, nonce, voter }
    NodeRow { epoch, boot, down, last, draining, addrs, levels }
    ServiceRow { service, home, name, instance, meta, addr, born_ms, methods, topics }
    PendingCallback { edge, incarnation, node, meta, addr }
}

impl Field for BTreeSet<Box<str>> {
    fn put(&self, out: &mut bytes::BytesMut) {
        (self.len() as u32).put(out);
        for item in self {
            item.put(out);
        }
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Vec::<Box<str>>::get(from)?.into_iter().collect())
    }
}

impl NodeRow {
    /// Whether a row of this epoch is live.
    pub fn is_live(&self, epoch: Epoch) -> bool {
        !self.down && self.epoch == epoch
    }
}
