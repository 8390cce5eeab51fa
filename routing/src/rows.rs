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
    /// The level that all nodes work at.
    pub level: u32,
    /// Keys that sign tickets, newest first; secrets.
    pub keys: Vec<Bytes>,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its mesh port was when it joined.
    pub mesh: String,
    /// Of its attempt to join; zeros for founders.
    pub nonce: [u8; 16],
    /// Whether it votes.
    pub voter: bool,
}

/// A member's latest life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its epoch.
    pub epoch: Epoch,
    /// Of its process.
    pub boot: [u8; 16],
    /// Whether it has been declared down in this epoch.
    pub down: bool,
    /// The number of its last batch in this epoch.
    pub last: u64,
    /// Whether an operator is emptying it.
    pub draining: bool,
    /// Where it is reached.
    pub addrs: NodeAddrs,
    /// What it can work at.
    pub levels: Levels,
}

/// An edge's session, as a look into the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeRow<'a> {
    /// Where it is.
    pub home: Home,
    /// What it said about itself.
    pub meta: &'a [u8],
    /// Its address.
    pub addr: &'a str,
    /// When it came, in milliseconds since 1970 by the clock of its node; for people, never compared.
    pub born_ms: u64,
    /// Its end is to be told to a service.
    pub owes_offline: bool,
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
    /// What tells the instance apart; zeros for nothing.
    pub instance: [u8; 16],
    /// What it said about itself.
    pub meta: Bytes,
    /// Its address.
    pub addr: Box<str>,
    /// When it came, in milliseconds since 1970 by the clock of its node; for people, never compared.
    pub born_ms: u64,
    /// Methods that it offers.
    pub methods: BTreeSet<Box<str>>,
    /// Topics that it takes.
    pub topics: BTreeSet<Box<str>>,
}

/// A callback that is still to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The edge.
    pub edge: EdgeId,
    /// The session that has ended.
    pub incarnation: Incarnation,
    /// The node that held it: the one to make the callback while it is up.
    pub node: NodeId,
    /// What the edge said about itself.
    pub meta: Bytes,
    /// Its address.
    pub addr: Box<str>,
}

records! {
    Cluster { id, level, keys }
    Member { node, name, mesh, nonce, voter }
    NodeRow { epoch, boot, down, last, draining, addrs, levels }
    ServiceRow { service, home, name, instance, meta, addr, born_ms, methods, topics }
    Owed { edge, incarnation, node, meta, addr }
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
