//! Commands to sessions and mesh links: what their tasks are told beside requests and streams.

use std::time::{Duration, Instant};

use limes_routing::{EdgeId, Incarnation};
use limes_wire::Code;
use limes_wire::frame::{GoAway, Welcome};
use tokio::sync::oneshot;

use super::address::Destination;

/// How long a session that is retired may finish what is in flight.
pub(crate) const RETIRE: Duration = Duration::from_secs(30);

/// What a session of either protocol is told to do.
#[derive(Debug)]
pub(crate) enum SessionCommand {
    /// The session is in the tables: welcome the peer.
    Welcome(Box<Welcome>),
    /// A register, withdraw, subscribe or unsubscribe has been decided.
    NamesDecided {
        /// The peer's id for it.
        id: u64,
        /// `OK`, or why nothing was changed.
        code: Code,
        /// One line for a person.
        text: String,
    },
    /// Close the connection for this reason.
    Close(GoAway),
    /// Take no new requests; close when nothing is in flight, or at the instant given.
    Retire(GoAway, Instant),
}

/// What a mesh link is told to do.
#[derive(Debug)]
pub(crate) enum LinkCommand {
    /// Fail what was sent to this node: it is down.
    PeerDown,
    /// Tell the other node that one of its edges has a newer session.
    Takeover {
        /// The edge.
        edge: EdgeId,
        /// The new session's incarnation; lower ones are to be closed.
        incarnation: Incarnation,
        /// The old session may finish what is in flight.
        moving: bool,
        /// Fires when the other node has confirmed.
        confirmed: oneshot::Sender<()>,
    },
    /// The tables have removed a session at the other end: what was forwarded to it ends with this code.
    SessionOver(Destination, Code),
    /// Send a ping.
    Ping,
    /// Close the connection for this reason.
    Close(GoAway),
}
