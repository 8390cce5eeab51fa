//! What is replicated. Tags are the format: a tag is never reused.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Field, records};
use crate::id::{EdgeId, Epoch, Incarnation, NodeId, ServiceId, SessionNo};

/// The cluster level that this code brings a new cluster to; it works at this level only.
pub const LEVEL: u32 = 1;

/// A member of the founding configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founder {
    /// Its number, 1..n.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its mesh port is.
    pub mesh: String,
}

/// The addresses under which a node is reached, as advertised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeAddrs {
    /// For nodes.
    pub mesh: String,
    /// For edges.
    pub edges: String,
    /// For services.
    pub services: String,
    /// For operators.
    pub control: String,
}

/// The cluster levels that a node can work at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// Lowest.
    pub min: u32,
    /// Highest.
    pub max: u32,
}

records! {
    Founder { node, name, mesh }
    NodeAddrs { mesh, edges, services, control }
    Levels { min, max }
}

macro_rules! events {
    ($($(#[$doc:meta])* $tag:literal => $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        /// One change of the tables.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type,)* },)*
        }

        impl Event {
            /// The event's name in listings and histories.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Event::$name { .. } => stringify!($name),)*
                }
            }
        }

        impl Field for Event {
            fn put(&self, out: &mut BytesMut) {
                match self {
                    $(Event::$name { $($field),* } => {
                        out.put_u8($tag);
                        $($field.put(out);)*
                    })*
                }
            }

            fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
                match u8::get(from)? {
                    $($tag => Ok(Event::$name { $($field: Field::get(from)?,)* }),)*
                    unknown => Err(DecodeError::Unknown("event", unknown.into())),
                }
            }
        }
    };
}

events! {
    /// The first event of a cluster.
    1 => ClusterMade {
        /// Its id, for ever.
        cluster: [u8; 16],
        /// Signs resume tickets; a secret.
        key: Bytes,
        /// Who founded it.
        founders: Vec<Founder>,
    }
    /// All nodes can work at this level; newer events may be used.
    2 => LevelRaised {
        /// The new level.
        level: u32,
    }
    /// A node joins; its number is this entry's revision. Idempotent by the nonce.
    3 => MemberAdded {
        /// Its name.
        name: String,
        /// Where its mesh port is.
        mesh: String,
        /// Of this attempt to join.
        nonce: [u8; 16],
    }
    /// A member votes from now on.
    4 => MemberPromoted {
        /// The member.
        node: NodeId,
    }
    /// A member is gone for good.
    5 => MemberRemoved {
        /// The member.
        node: NodeId,
    }
    /// A process serves as this member; its epoch is this entry's revision. Idempotent by the boot
    /// nonce while the node is up; a fenced process takes a new epoch with the same nonce.
    6 => NodeUp {
        /// The member.
        node: NodeId,
        /// Of this process.
        boot: [u8; 16],
        /// Where it is reached.
        addrs: NodeAddrs,
        /// What it can work at.
        levels: Levels,
    }
    /// The node has not been heard for too long, or has said good-bye: its rows are suspended.
    7 => NodeDown {
        /// The member.
        node: NodeId,
        /// Only this life of it.
        epoch: Epoch,
    }
    /// A fenced node has revived all it could: what is left of its older epochs goes.
    8 => ResumeEnd {
    }
    /// The rows of a node that stayed down are dropped.
    9 => SuspendedDropped {
        /// The member.
        node: NodeId,
        /// Nothing newer than this life of it.
        epoch: Epoch,
    }
    /// Edge ids for a node to give out.
    10 => EdgeIdsReserved {
        /// How many.
        count: u32,
    }
    /// Service ids for a node to give out.
    11 => ServiceIdsReserved {
        /// How many.
        count: u32,
    }
    /// An edge is being asked about; routes nothing and evicts nobody.
    12 => EdgeAdmitting {
        /// The edge.
        edge: EdgeId,
        /// Its session on the proposing node.
        session: SessionNo,
    }
    /// An edge's session begins on the proposing node.
    13 => EdgeOnline {
        /// The edge.
        edge: EdgeId,
        /// Its session.
        session: SessionNo,
        /// What it said about itself.
        meta: Bytes,
        /// Its address.
        addr: Box<str>,
        /// The older session may finish what is in flight.
        moving: bool,
        /// Its end is to be told to a service.
        owes_offline: bool,
    }
    /// A service said no.
    14 => EdgeRefused {
        /// The edge.
        edge: EdgeId,
        /// Its session.
        session: SessionNo,
    }
    /// An edge's session has ended.
    15 => EdgeOffline {
        /// The edge.
        edge: EdgeId,
        /// Only this session of it.
        incarnation: Incarnation,
    }
    /// A fenced node revives a row that is still there.
    16 => EdgeResumed {
        /// The edge.
        edge: EdgeId,
        /// The row that must still be there.
        incarnation: Incarnation,
    }
    /// A service's session begins on the proposing node.
    17 => ServiceOnline {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
        /// Its name.
        name: Box<str>,
        /// Zeros, or what tells this instance apart: a newer session of the same replaces it.
        instance: [u8; 16],
        /// What it said about itself.
        meta: Bytes,
        /// Its address.
        addr: Box<str>,
    }
    /// A service's session has ended.
    18 => ServiceOffline {
        /// The service.
        service: ServiceId,
        /// Only this session of it.
        session: SessionNo,
    }
    /// A fenced node revives a service's row.
    19 => ServiceResumed {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
    }
    /// A session offers methods.
    20 => MethodsRegistered {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
        /// The methods.
        names: Vec<Box<str>>,
    }
    /// A session offers methods no longer.
    21 => MethodsWithdrawn {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
        /// The methods.
        names: Vec<Box<str>>,
    }
    /// A session takes topics.
    22 => TopicsSubscribed {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
        /// The topics.
        names: Vec<Box<str>>,
    }
    /// A session takes topics no longer.
    23 => TopicsUnsubscribed {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
        /// The topics.
        names: Vec<Box<str>>,
    }
    /// A callback must be made, whatever becomes of the edge's row.
    24 => CallbackOwed {
        /// The edge.
        edge: EdgeId,
        /// The session it is about.
        incarnation: Incarnation,
        /// What the edge said about itself.
        meta: Bytes,
        /// Its address.
        addr: Box<str>,
    }
    /// A callback has been answered, or nobody wants it.
    25 => CallbackSettled {
        /// The edge.
        edge: EdgeId,
        /// The session it was about.
        incarnation: Incarnation,
    }
    /// An operator ends an edge's session.
    26 => Kick {
        /// The edge.
        edge: EdgeId,
    }
    /// An operator empties a node, or fills it again.
    27 => Drain {
        /// The member.
        node: NodeId,
        /// Whether it is drained.
        on: bool,
    }
    /// An operator changes a setting; an empty value removes it.
    28 => SettingChanged {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
    }
    /// An operator ends all sessions of a service.
    29 => KickService {
        /// The service.
        service: ServiceId,
    }
}
