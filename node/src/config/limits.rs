//! What a node allows its peers.

use std::time::Duration;

use limes_wire::limits as wire;

use super::setting::{Leaf, Settings, Visitor};
use super::unit::Size;

/// Caps, each with its unit. A peer that crosses one is told which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of edges and services together.
    pub sessions: usize,
    /// Connections of one port from one IP address.
    pub per_address: Cap,
    /// Connections of one port that are not welcomed yet.
    pub handshakes: usize,
    /// Resident memory of the process above which nothing new is taken.
    pub memory: Mark,
    /// Largest payload of a call, reply or message.
    pub body: Size,
    /// Calls and messages in flight on one connection, each way.
    pub calls: usize,
    /// Payload bytes in flight of one connection, beyond the first.
    pub queued: Size,
    /// Methods and topics of one service's connection.
    pub names: usize,
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
            "Edges and services connected to this node at once; more are turned away.",
            &mut self.sessions,
        );
        v.leaf(
            "per_address",
            "Connections of one port from one IP address, or unlimited; more are turned away.",
            &mut self.per_address,
        );
        v.leaf(
            "handshakes",
            "Connections of one port that are not welcomed yet; past it the one that has been silent longest is closed.",
            &mut self.handshakes,
        );
        v.leaf(
            "memory",
            "Memory of this process above which newcomers, calls, messages and streams are refused: a size, unlimited, \
             or auto, three quarters of what the machine or the control group has.",
            &mut self.memory,
        );
        v.leaf("body", "Largest payload of a call, a reply or a message; at most 16MiB.", &mut self.body);
        v.leaf(
            "calls",
            "Calls and messages in flight on one connection, each way; more are told busy.",
            &mut self.calls,
        );
        v.leaf(
            "queued",
            "Payload bytes in flight of one connection, beyond the first; more are told busy. At most 16MiB.",
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

/// A number that may be without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// At most so many.
    At(usize),
    /// As many as come.
    Unlimited,
}

impl Cap {
    /// Whether one more would be too many.
    pub fn is_reached(self, now: usize) -> bool {
        matches!(self, Cap::At(most) if now >= most)
    }
}

impl Leaf for Cap {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Ok(Cap::Unlimited),
            text => usize::from_text(text).map(Cap::At).map_err(|why| format!("{why}, nor unlimited")),
        }
    }

    fn to_yaml(&self) -> String {
        match self {
            Cap::At(most) => most.to_yaml(),
            Cap::Unlimited => "unlimited".into(),
        }
    }
}

/// How much memory is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Three quarters of what the machine or the control group has.
    Auto,
    /// So much.
    At(Size),
    /// None is.
    Unlimited,
}

impl Leaf for Mark {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Mark::Auto),
            "unlimited" => Ok(Mark::Unlimited),
            text => Size::from_text(text).map(Mark::At).map_err(|why| format!("{why}, auto or unlimited")),
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
