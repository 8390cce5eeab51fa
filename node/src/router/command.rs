//! Commands to the tasks of sessions and mesh links, beside requests and streams.

use std::time::{Duration, Instant};

use limes_routing::{EdgeId, Incarnation};
use limes_wire::Code;
use limes_wire::frame::{GoAway, Welcome};
use tokio::sync::oneshot;

use super::address::Destination;

/// How long a session that is retired may finish what is in flight.
pub(crate) const RETIRE: Duration = Duration::from_secs(30);

/// A command to a session of either protocol.
#[derive(Debug)]
pub(crate) enum SessionCommand {
    /// Welcome the peer: the session is in the tables.
    Welcome(Box<Welcome>),
    /// Answer a register, withdraw, subscribe or unsubscribe.
    NamesDecided {
        /// The peer's id for the request.
        id: u64,
        /// `OK`, or why no name was changed.
        code: Code,
        /// One line for a person.
        text: String,
    },
    /// Close the connection for this reason.
    Close(GoAway),
    /// Take no new requests; close when nothing is in flight, or at the instant given.
    Retire(GoAway, Instant),
}

/// A command to a mesh link.
#[derive(Debug)]
pub(crate) enum LinkCommand {
    /// Fail what was sent over this link: the node at its other end is down.
    PeerDown,
    /// Notify the other node that one of its edges has a newer session.
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
    /// End what was forwarded to this session with this code: the tables have removed the session.
    SessionOver(Destination, Code),
    /// Send a ping.
    Ping,
    /// Close the connection for this reason.
    Close(GoAway),
}
