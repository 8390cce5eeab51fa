//! What a node allows its peers.

use std::time::Duration;

use limes_wire::limits as wire;

use super::setting::{Settings, Visitor};
use super::unit::Size;

/// Caps, each with its unit. A peer that crosses one is told which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of edges and services together.
    pub sessions: usize,
    /// Largest payload of a call, reply or message.
    pub body: Size,
    /// Streams open at once on one connection.
    pub streams: usize,
    /// Silence after which a peer is pinged; twice as long ends the session.
    pub keepalive: Duration,
    /// Time for the handshake of a new connection.
    pub handshake: Duration,
    /// How long a peer may take nothing while output waits for it.
    pub stall: Duration,
}

impl Limits {
    /// The part that the protocol itself watches.
    pub fn connection(&self) -> wire::Limits {
        wire::Limits {
            body: self.body.as_usize(),
            streams: self.streams,
            keepalive: self.keepalive,
            handshake: self.handshake,
            stall: self.stall,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let wire = wire::Limits::default();
        Limits {
            sessions: 1_000_000,
            body: Size::bytes(wire.body as u64),
            streams: wire.streams,
            keepalive: wire.keepalive,
            handshake: wire.handshake,
            stall: wire.stall,
        }
    }
}

impl Settings for Limits {
    fn visit<V: Visitor>(&mut self, v: &mut V) {
        v.leaf(
            "sessions",
            "Edges and services connected to this node at once; more are turned away.",
            &mut self.sessions,
        );
        v.leaf("body", "Largest payload of a call, a reply or a message; at most 16MiB.", &mut self.body);
        v.leaf("streams", "Streams open at once on one connection.", &mut self.streams);
        v.leaf(
            "keepalive",
            "Silence after which a peer is pinged; twice as long ends its session. A peer may ask for less.",
            &mut self.keepalive,
        );
        v.leaf(
            "handshake",
            "Time that a new connection has to say who it is and to be admitted.",
            &mut self.handshake,
        );
        v.leaf(
            "stall",
            "How long a peer may take nothing of what waits for it before it is cut off.",
            &mut self.stall,
        );
    }
}
