//! The handshake's two frames (PROTOCOL 3).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_bytes, put_names};
use crate::limits;

/// The versions of the protocol that this code speaks, lowest and highest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A device, agent or site.
    Edge,
    /// A back end.
    Service,
    /// Another node of the cluster.
    Node,
}

/// The first frame of the side that dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Lowest and highest version spoken.
    pub versions: (u16, u16),
    /// What the peer is.
    pub role: Role,
    /// Optional abilities, one bit each; none is defined in version 1.
    pub features: u64,
    /// Silence after which the peer wants to be pinged; zero leaves it to the gateway.
    pub keepalive: Duration,
    /// The peer opens this session to leave another in order: the other may finish.
    pub moving: bool,
    /// The edge id that the peer would like, if it can prove it.
    pub claim: Option<u64>,
    /// The service's or node's name; empty for an edge.
    pub name: String,
    /// Tells instances of a service apart; zeros for none.
    pub instance: [u8; 16],
    /// From an earlier welcome.
    pub ticket: Bytes,
    /// What the peer says about itself; for callbacks and listings.
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

impl Hello {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        out.put_u16(self.versions.0);
        out.put_u16(self.versions.1);
        out.put_u8(match self.role {
            Role::Edge => 1,
            Role::Service => 2,
            Role::Node => 3,
        });
        out.put_u8(u8::from(self.moving));
        out.put_u64(self.features);
        put_ms(out, self.keepalive);
        out.put_u64(self.claim.unwrap_or(0));
        out.put_slice(&self.instance);
        put_bytes(out, self.name.as_bytes());
        put_bytes(out, &self.ticket);
        self.meta
    }

    pub(super) fn get(from: &mut Reader, body: Bytes) -> Result<Self, DecodeError> {
        if body.len() > limits::META_MAX {
            return Err(DecodeError::TooLong("meta", limits::META_MAX));
        }
        let versions = (from.u16()?, from.u16()?);
        let role = match from.u8()? {
            1 => Role::Edge,
            2 => Role::Service,
            3 => Role::Node,
            other => return Err(DecodeError::Unknown(other.into(), "a role")),
        };
        Ok(Hello {
            versions,
            role,
            moving: from.u8()? & 1 == 1,
            features: from.u64()?,
            keepalive: get_ms(from)?,
            claim: Some(from.u64()?).filter(|claim| *claim != 0),
            instance: from.id()?,
            name: from.name()?.to_string(),
            ticket: from.bytes("ticket", limits::TICKET_MAX)?,
            meta: body,
        })
    }
}

/// The first frame of the side that accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The version that both speak from here on.
    pub version: u16,
    /// The abilities that both have.
    pub features: u64,
    /// Silence after which either side pings.
    pub keepalive: Duration,
    /// The edge's or service's id.
    pub id: u64,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// The node's name.
    pub node: String,
    /// Largest body that the gateway takes, in bytes.
    pub max_body: u32,
    /// Addresses of other nodes, to be tried when this one fails.
    pub peers: Vec<String>,
    /// Proves the id at the next connect; empty if there is none.
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
            max_body: limits::FRAME_BODY_MAX as u32,
            peers: Vec::new(),
            ticket: Bytes::new(),
        }
    }
}

impl Welcome {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        out.put_u16(self.version);
        out.put_u64(self.features);
        put_ms(out, self.keepalive);
        out.put_u64(self.id);
        out.put_slice(&self.cluster);
        out.put_u32(self.max_body);
        put_bytes(out, self.node.as_bytes());
        put_names(out, self.peers.iter().map(String::as_str));
        self.ticket
    }

    pub(super) fn get(from: &mut Reader, body: Bytes) -> Result<Self, DecodeError> {
        if body.len() > limits::TICKET_MAX {
            return Err(DecodeError::TooLong("ticket", limits::TICKET_MAX));
        }
        Ok(Welcome {
            version: from.u16()?,
            features: from.u64()?,
            keepalive: get_ms(from)?,
            id: from.u64()?,
            cluster: from.id()?,
            max_body: from.u32()?,
            node: from.name()?.to_string(),
            peers: get_peers(from)?,
            ticket: body,
        })
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
