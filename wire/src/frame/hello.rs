//! The handshake's two frames (PROTOCOL 3).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_field, put_names};
use crate::limits;

/// The lowest and the highest version of the protocol that this code supports.
pub const VERSIONS: (u16, u16) = (1, 1);

/// The kind of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A device, agent or site.
    Edge,
    /// A back-end process.
    Service,
    /// Another node of the cluster.
    Node,
}

/// The first frame of the side that dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The lowest and the highest version that the client supports.
    pub versions: (u16, u16),
    /// The kind of the client.
    pub role: Role,
    /// Optional features, one bit each; version 1 defines none.
    pub features: u64,
    /// The keepalive interval that the client asks for; zero leaves it to the gateway.
    pub keepalive: Duration,
    /// The client opens this session to replace another, which may finish its work.
    pub moving: bool,
    /// The edge id that the client claims; the gateway grants it only with proof.
    pub claim: Option<u64>,
    /// The service's or node's name; empty for an edge.
    pub name: String,
    /// Tells instances of a service apart; zeros for none.
    pub instance: [u8; 16],
    /// The ticket of an earlier welcome; empty for none.
    pub ticket: Bytes,
    /// The client's description of itself, for callbacks and listings.
    pub meta: Bytes,
}

impl Default for Hello {
    fn default() -> Self {
        Hello {
            versions: VERSIONS,
            role: Role::Edge,
            features: 0,
            keepalive: Duration::ZERO,
            moving: false,
            claim: None,
            name: String::new(),
            instance: [0; 16],
            ticket: Bytes::new(),
            meta: Bytes::new(),
        }
    }
}

/// Tags of the hello's fields (PROTOCOL 3.2).
mod hello_tag {
    pub(super) const VERSIONS: u8 = 1;
    pub(super) const ROLE: u8 = 2;
    pub(super) const FEATURES: u8 = 3;
    pub(super) const KEEPALIVE: u8 = 4;
    pub(super) const MOVING: u8 = 5;
    pub(super) const CLAIM: u8 = 6;
    pub(super) const INSTANCE: u8 = 7;
    pub(super) const NAME: u8 = 8;
    pub(super) const TICKET: u8 = 9;
}

impl Hello {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        put_field(out, hello_tag::VERSIONS, |out| {
            out.put_u16(self.versions.0);
            out.put_u16(self.versions.1);
        });
        put_field(out, hello_tag::ROLE, |out| {
            out.put_u8(match self.role {
                Role::Edge => 1,
                Role::Service => 2,
                Role::Node => 3,
            });
        });
        if self.features != 0 {
            put_field(out, hello_tag::FEATURES, |out| out.put_u64(self.features));
        }
        if !self.keepalive.is_zero() {
            put_field(out, hello_tag::KEEPALIVE, |out| put_ms(out, self.keepalive));
        }
        if self.moving {
            put_field(out, hello_tag::MOVING, |_| {});
        }
        if let Some(claim) = self.claim {
            put_field(out, hello_tag::CLAIM, |out| out.put_u64(claim));
        }
        if self.instance != [0; 16] {
            put_field(out, hello_tag::INSTANCE, |out| out.put_slice(&self.instance));
        }
        if !self.name.is_empty() {
            put_field(out, hello_tag::NAME, |out| out.put_slice(self.name.as_bytes()));
        }
        if !self.ticket.is_empty() {
            put_field(out, hello_tag::TICKET, |out| out.put_slice(&self.ticket));
        }
        self.meta
    }

    pub(super) fn get(from: &mut Reader, body: Bytes) -> Result<Self, DecodeError> {
        if body.len() > limits::META_MAX {
            return Err(DecodeError::TooLong("meta", limits::META_MAX));
        }
        let (mut versions, mut role) = (None, None);
        let mut read = Hello { meta: body, ..Hello::default() };
        while let Some((tag, mut value)) = from.field()? {
            match tag {
                hello_tag::VERSIONS => versions = Some((value.u16()?, value.u16()?)),
                hello_tag::ROLE => role = Some(get_role(&mut value)?),
                hello_tag::FEATURES => read.features = value.u64()?,
                hello_tag::KEEPALIVE => read.keepalive = get_ms(&mut value)?,
                hello_tag::MOVING => read.moving = true,
                hello_tag::CLAIM => read.claim = Some(value.u64()?),
                hello_tag::INSTANCE => read.instance = value.id()?,
                hello_tag::NAME => read.name = value.rest_name()?,
                hello_tag::TICKET => read.ticket = value.rest("ticket", limits::TICKET_MAX)?,
                // Defined by a newer version.
                _ => {}
            }
        }
        read.versions = versions.ok_or(DecodeError::Missing("the range of versions"))?;
        read.role = role.ok_or(DecodeError::Missing("the role"))?;
        Ok(read)
    }
}

fn get_role(from: &mut Reader) -> Result<Role, DecodeError> {
    match from.u8()? {
        1 => Ok(Role::Edge),
        2 => Ok(Role::Service),
        3 => Ok(Role::Node),
        other => Err(DecodeError::Unknown(other.into(), "a role")),
    }
}

/// The first frame of the side that accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version that both sides use from now on.
    pub version: u16,
    /// The features that both sides have.
    pub features: u64,
    /// The silence after which either side sends a ping.
    pub keepalive: Duration,
    /// The edge's or service's id.
    pub id: u64,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// The node's name.
    pub node: String,
    /// The revision and ordinal of the session's "online" event: of two sessions with one id, the higher one is live.
    pub incarnation: (u64, u32),
    /// The largest body that the gateway accepts, in bytes.
    pub max_body: u32,
    /// Most calls and messages that the client may have in flight.
    pub max_calls: u32,
    /// Most streams that may be open on the connection.
    pub max_streams: u32,
    /// Most bytes of bodies that the client may have in flight, beyond the first.
    pub max_queued: u32,
    /// Addresses of other nodes, for when this one fails.
    pub peers: Vec<String>,
    /// Proves the id at the next connect; empty for none.
    pub ticket: Bytes,
}

impl Default for Welcome {
    fn default() -> Self {
        Welcome {
            version: VERSIONS.1,
            features: 0,
            keepalive: limits::KEEPALIVE,
            id: 0,
            cluster: [0; 16],
            node: String::new(),
            incarnation: (0, 0),
            max_body: limits::FRAME_BODY_MAX as u32,
            max_calls: limits::CALLS_MAX as u32,
            max_streams: limits::STREAMS_MAX as u32,
            max_queued: limits::IN_FLIGHT_BYTES_MAX as u32,
            peers: Vec::new(),
            ticket: Bytes::new(),
        }
    }
}

/// Tags of the welcome's fields (PROTOCOL 3.3).
mod welcome_tag {
    pub(super) const VERSION: u8 = 1;
    pub(super) const FEATURES: u8 = 2;
    pub(super) const KEEPALIVE: u8 = 3;
    pub(super) const ID: u8 = 4;
    pub(super) const INCARNATION: u8 = 5;
    pub(super) const CLUSTER: u8 = 6;
    pub(super) const NODE: u8 = 7;
    pub(super) const PEERS: u8 = 8;
    pub(super) const TICKET: u8 = 9;
    pub(super) const MAX_BODY: u8 = 10;
    pub(super) const MAX_CALLS: u8 = 11;
    pub(super) const MAX_STREAMS: u8 = 12;
    pub(super) const MAX_QUEUED: u8 = 13;
}

impl Welcome {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        put_field(out, welcome_tag::VERSION, |out| out.put_u16(self.version));
        if self.features != 0 {
            put_field(out, welcome_tag::FEATURES, |out| out.put_u64(self.features));
        }
        put_field(out, welcome_tag::KEEPALIVE, |out| put_ms(out, self.keepalive));
        put_field(out, welcome_tag::ID, |out| out.put_u64(self.id));
        put_field(out, welcome_tag::INCARNATION, |out| {
            out.put_u64(self.incarnation.0);
            out.put_u32(self.incarnation.1);
        });
        put_field(out, welcome_tag::CLUSTER, |out| out.put_slice(&self.cluster));
        put_field(out, welcome_tag::NODE, |out| out.put_slice(self.node.as_bytes()));
        if !self.peers.is_empty() {
            let peers = self.peers.iter().map(String::as_str);
            put_field(out, welcome_tag::PEERS, |out| put_names(out, peers));
        }
        if !self.ticket.is_empty() {
            put_field(out, welcome_tag::TICKET, |out| out.put_slice(&self.ticket));
        }
        put_field(out, welcome_tag::MAX_BODY, |out| out.put_u32(self.max_body));
        put_field(out, welcome_tag::MAX_CALLS, |out| out.put_u32(self.max_calls));
        put_field(out, welcome_tag::MAX_STREAMS, |out| out.put_u32(self.max_streams));
        put_field(out, welcome_tag::MAX_QUEUED, |out| out.put_u32(self.max_queued));
        Bytes::new()
    }

    pub(super) fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        let (mut version, mut id) = (None, None);
        let mut read = Welcome::default();
        while let Some((tag, mut value)) = from.field()? {
            match tag {
                welcome_tag::VERSION => version = Some(value.u16()?),
                welcome_tag::FEATURES => read.features = value.u64()?,
                welcome_tag::KEEPALIVE => read.keepalive = get_ms(&mut value)?,
                welcome_tag::ID => id = Some(value.u64()?),
                welcome_tag::INCARNATION => read.incarnation = (value.u64()?, value.u32()?),
                welcome_tag::CLUSTER => read.cluster = value.id()?,
                welcome_tag::NODE => read.node = value.rest_name()?,
                welcome_tag::PEERS => read.peers = get_peers(&mut value)?,
                welcome_tag::TICKET => read.ticket = value.rest("ticket", limits::TICKET_MAX)?,
                welcome_tag::MAX_BODY => read.max_body = value.u32()?,
                welcome_tag::MAX_CALLS => read.max_calls = value.u32()?,
                welcome_tag::MAX_STREAMS => read.max_streams = value.u32()?,
                welcome_tag::MAX_QUEUED => read.max_queued = value.u32()?,
                // Defined by a newer version.
                _ => {}
            }
        }
        read.version = version.ok_or(DecodeError::Missing("the version"))?;
        read.id = id.ok_or(DecodeError::Missing("the id"))?;
        Ok(read)
    }
}

pub(super) fn get_peers(from: &mut Reader) -> Result<Vec<String>, DecodeError> {
    let peers = from.names("addresses", limits::PEERS_MAX)?;
    Ok(peers.iter().map(ToString::to_string).collect())
}

pub(super) fn put_ms(out: &mut BytesMut, time: Duration) {
    out.put_u32(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
}

pub(super) fn get_ms(from: &mut Reader) -> Result<Duration, DecodeError> {
    Ok(Duration::from_millis(from.u32()?.into()))
}
