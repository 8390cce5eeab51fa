//! Error codes (PROTOCOL 8): integers on the wire, with names for those that are known.

use std::fmt;

/// Why a call, message, stream or connection ended. Unknown numbers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($number);)*

            /// All named codes with their names, ordered by number.
            pub const ALL: &'static [(Code, &'static str)] = &[$((Code($number), stringify!($name)),)*];
        }
    };
}

codes! {
    /// No error.
    OK = 0,
    /// No edge with that id is connected.
    NO_EDGE = 1,
    /// No service of that name, or none that takes the topic, is connected.
    NO_SERVICE = 2,
    /// No service offers the method, or the edge has no handler for it.
    NO_METHOD = 3,
    /// A queue on the way is full; try again later.
    BUSY = 4,
    /// No answer within the deadline.
    TIMEOUT = 5,
    /// The caller gave up.
    CANCELLED = 6,
    /// A newer connection with the same id took over.
    REPLACED = 7,
    /// The receiver's session ended.
    GONE = 8,
    /// The receiver's session is on another node.
    MOVED = 9,
    /// The cluster cannot agree now.
    NO_QUORUM = 10,
    /// A service or the gateway said no.
    REFUSED = 11,
    /// Larger than a limit allows.
    TOO_LARGE = 12,
    /// The receiver's handler reported an error of its own.
    APPLICATION = 13,
    /// The node or session takes no new work; use another.
    DRAINING = 14,
    /// Bytes that the protocol does not allow.
    PROTOCOL = 32,
    /// No common protocol version.
    VERSION = 33,
    /// Not who it claims to be, or not allowed.
    AUTH = 34,
    /// Silent for too long.
    KEEPALIVE = 35,
    /// The node is stopping.
    SHUTDOWN = 36,
    /// An operator closed the session.
    KICKED = 37,
    /// A limit was crossed.
    LIMIT = 38,
    /// The handshake took too long.
    HANDSHAKE_TIMEOUT = 39,
    /// A node of another cluster.
    WRONG_CLUSTER = 40,
    /// A defect or a failed disk on this side.
    INTERNAL = 41,
    /// The node has lost the quorum; another may serve.
    ISOLATED = 42,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Code::ALL.iter().find(|(code, _)| code == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}
