//! The replicated events. Their tags are the format: a tag is never reused.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Field, records};
use crate::id::{EdgeId, Epoch, Incarnation, NodeId, ServiceId, SessionNo};

/// The cluster level of a new cluster; this code supports no other.
pub const LEVEL: u32 = 1;

/// A founding member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founder {
    /// Its id, 1 to n.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The address of its mesh port.
    pub mesh: String,
}

/// The addresses that a node advertises.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeAddrs {
    /// The address for nodes.
    pub mesh: String,
    /// The address for edges.
    pub edges: String,
    /// The address for services.
    pub services: String,
    /// The address for operators.
    pub control: String,
}

/// The cluster levels that a node supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// The lowest.
    pub min: u32,
    /// The highest.
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
        /// Its id, which never changes.
        cluster: [u8; 16],
        /// Signs resume tickets; a secret.
        key: Bytes,
        /// The founding members.
        founders: Vec<Founder>,
    }
    /// All nodes support this level: events of this level may be proposed.
    2 => LevelRaised {
        /// The new level.
        level: u32,
    }
    /// A node joins; its id is this entry's revision. Idempotent by the nonce.
    3 => MemberAdded {
        /// Its name.
        name: String,
        /// The address of its mesh port.
        mesh: String,
        /// Identifies this attempt to join.
        nonce: [u8; 16],
    }
    /// A member becomes a voter.
    4 => MemberPromoted {
        /// The member.
        node: NodeId,
    }
    /// A member is removed.
    5 => MemberRemoved {
        /// The member.
        node: NodeId,
    }
    /// A process serves as this member; its epoch is this entry's revision. Idempotent by the boot nonce while the node
    /// is up; a fenced process gets a new epoch with the same nonce.
    6 => NodeUp {
        /// The member.
        node: NodeId,
        /// Identifies the process.
        boot: [u8; 16],
        /// Its addresses.
        addrs: NodeAddrs,
        /// The levels that it supports.
        levels: Levels,
    }
    /// The node was silent for too long or has stopped: its rows are suspended.
    7 => NodeDown {
        /// The member.
        node: NodeId,
        /// Applies only to this epoch.
        epoch: Epoch,
    }
    /// A fenced node has revived its sessions: the remaining rows of its older epochs are removed.
    8 => ResumeEnd {
    }
    /// The rows of a node that stayed down are removed.
    9 => SuspendedDropped {
        /// The member.
        node: NodeId,
        /// Applies only to this epoch.
        epoch: Epoch,
    }
    /// Reserves edge ids for a node to assign.
    10 => EdgeIdsReserved {
        /// The number of ids.
        count: u32,
    }
    /// Reserves service ids for a node to assign.
    11 => ServiceIdsReserved {
        /// The number of ids.
        count: u32,
    }
    /// A node is admitting an edge; the event changes no route and evicts no session.
    12 => EdgeAdmitting {
        /// The edge.
        edge: EdgeId,
        /// The session on the proposing node.
        session: SessionNo,
    }
    /// An edge's session begins on the proposing node.
    13 => EdgeOnline {
        /// The edge.
        edge: EdgeId,
        /// Its session.
        session: SessionNo,
        /// Its meta.
        meta: Bytes,
        /// Its address.
        addr: Box<str>,
        /// The older session may finish what is in flight.
        moving: bool,
        /// Whether the end of the session is due as a callback.
        offline_callback: bool,
    }
    /// A service refused the edge.
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
        /// Applies only to this session.
        incarnation: Incarnation,
    }
    /// A fenced node revives the row of one of its sessions.
    16 => EdgeResumed {
        /// The edge.
        edge: EdgeId,
        /// The session whose row must still exist.
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
        /// Identifies the instance; zeros for none. A newer session of the same instance replaces this one.
        instance: [u8; 16],
        /// Its meta.
        meta: Bytes,
        /// Its address.
        addr: Box<str>,
    }
    /// A service's session has ended.
    18 => ServiceOffline {
        /// The service.
        service: ServiceId,
        /// Applies only to this session.
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
    /// A session stops offering methods.
    21 => MethodsWithdrawn {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
        /// The methods.
        names: Vec<Box<str>>,
    }
    /// A session subscribes to topics.
    22 => TopicsSubscribed {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
        /// The topics.
        names: Vec<Box<str>>,
    }
    /// A session unsubscribes from topics.
    23 => TopicsUnsubscribed {
        /// The service.
        service: ServiceId,
        /// Its session.
        session: SessionNo,
        /// The topics.
        names: Vec<Box<str>>,
    }
    /// A callback is pending, independent of the edge's row.
    24 => CallbackOwed {
        /// The edge.
        edge: EdgeId,
        /// The session that it is about.
        incarnation: Incarnation,
        /// The edge's meta.
        meta: Bytes,
        /// Its address.
        addr: Box<str>,
    }
    /// A callback was answered, or no service offers it.
    25 => CallbackSettled {
        /// The edge.
        edge: EdgeId,
        /// The session that it is about.
        incarnation: Incarnation,
    }
    /// An operator ends an edge's session.
    26 => Kick {
        /// The edge.
        edge: EdgeId,
    }
    /// An operator starts or stops draining a node.
    27 => Drain {
        /// The member.
        node: NodeId,
        /// Whether the node drains.
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
