//! Limits that a node enforces on its peers.

use std::time::Duration;

use limes_wire::limits as wire;

use super::setting::{Leaf, Settings, Visitor};
use super::unit::Size;
use super::value_error::ValueError;

/// Limits, each with its unit. A peer that exceeds one gets an error that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of edges and services together.
    pub sessions: usize,
    /// Connections of one port from one IP address.
    pub per_address: Cap,
    /// Connections of one port that have not finished their handshake.
    pub handshakes: usize,
    /// Resident memory of the process above which new work is refused.
    pub memory: Mark,
    /// Largest payload of a call, reply or message.
    pub body: Size,
    /// Calls and messages in flight on one connection, each way.
    pub calls: usize,
    /// Payload bytes in flight on one connection, not counting the first payload.
    pub queued: Size,
    /// Methods and topics of one service's connection.
    pub names: usize,
    /// Streams open at once on one connection.
    pub streams: usize,
    /// Silence after which a peer is pinged; twice as long ends the session.
    pub keepalive: Duration,
    /// Time for the handshake of a new connection.
    pub handshake: Duration,
    /// How long a peer may read nothing while output is waiting for it.
    pub stall: Duration,
}

impl Limits {
    /// The limits that the protocol driver of a connection enforces.
    pub fn connection(&self) -> wire::Limits {
        wire::Limits {
            body: self.body.as_usize(),
            calls: self.calls,
            queued: self.queued.as_usize(),
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
            per_address: Cap::At(10_000),
            handshakes: 8_192,
            memory: Mark::Auto,
            body: Size::bytes(wire.body as u64),
            calls: wire.calls,
            queued: Size::bytes(wire::IN_FLIGHT_BYTES_MAX as u64),
            names: 4_096,
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
            "Edges and services connected to this node at once; more are refused.",
            &mut self.sessions,
        );
        v.leaf(
            "per_address",
            "Connections of one port from one IP address, or unlimited; more are refused.",
            &mut self.per_address,
        );
        v.leaf(
            "handshakes",
            "Connections of one port that have not finished their handshake; at the limit the one that has been silent \
             longest is closed.",
            &mut self.handshakes,
        );
        v.leaf(
            "memory",
            "Memory of this process above which new connections, calls, messages and streams are refused: a size, \
             unlimited, or auto, which is three quarters of the memory of the machine or control group.",
            &mut self.memory,
        );
        v.leaf("body", "Largest payload of a call, a reply or a message; at most 16MiB.", &mut self.body);
        v.leaf(
            "calls",
            "Calls and messages in flight on one connection, each way; more are refused as busy.",
            &mut self.calls,
        );
        v.leaf(
            "queued",
            "Payload bytes in flight on one connection, not counting the first payload; more are refused as busy. At \
             most 16MiB.",
            &mut self.queued,
        );
        v.leaf("names", "Methods and topics of one service's connection; more are refused.", &mut self.names);
        v.leaf("streams", "Streams open at once on one connection.", &mut self.streams);
        v.leaf(
            "keepalive",
            "Silence after which a peer is pinged; twice as long ends its session. A peer may ask for less.",
            &mut self.keepalive,
        );
        v.leaf(
            "handshake",
            "Time in which a new connection must identify itself and be admitted.",
            &mut self.handshake,
        );
        v.leaf(
            "stall",
            "How long a peer may read nothing while output is waiting for it before it is disconnected.",
            &mut self.stall,
        );
    }
}

/// A limit on a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// At most this many.
    At(usize),
    /// No limit.
    Unlimited,
}

impl Cap {
    /// Whether `now` leaves no room for one more.
    pub fn is_reached(self, now: usize) -> bool {
        matches!(self, Cap::At(most) if now >= most)
    }
}

impl Leaf for Cap {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "unlimited" => Ok(Cap::Unlimited),
            text => usize::from_text(text).map(Cap::At).map_err(|error| error.or_keywords("unlimited")),
        }
    }

    fn to_yaml(&self) -> String {
        match self {
            Cap::At(most) => most.to_yaml(),
            Cap::Unlimited => "unlimited".into(),
        }
    }
}

/// The high-water mark of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Three quarters of the memory of the machine or control group.
    Auto,
    /// This much.
    At(Size),
    /// No limit.
    Unlimited,
}

impl Leaf for Mark {
    fn from_text(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Mark::Auto),
            "unlimited" => Ok(Mark::Unlimited),
            text => {
                Size::from_text(text).map(Mark::At).map_err(|error| error.or_keywords("auto or unlimited"))
            }
        }
    }

    fn to_yaml(&self) -> String {
        match self {
            Mark::Auto => "auto".into(),
            Mark::At(size) => size.to_yaml(),
            Mark::Unlimited => "unlimited".into(),
        }
    }
}
