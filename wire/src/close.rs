//! Why a connection ended, and which side ended it.

use std::fmt;

use crate::code::Code;

/// Which side ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// This side.
    Us,
    /// The other side, by a message of the protocol.
    Peer,
    /// Neither: the transport failed or ended.
    Transport,
}

/// The end of a connection, for logs, metrics and callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CloseReason {
    /// A named code, or a number of a newer peer.
    pub code: Code,
    /// Which side ended it.
    pub by: By,
    /// The reason in one line, for logs and people.
    pub text: String,
}

impl CloseReason {
    /// This side ends the connection.
    pub fn us(code: Code, text: impl Into<String>) -> Self {
        CloseReason { code, by: By::Us, text: text.into() }
    }

    /// The other side has ended it.
    pub fn peer(code: Code, text: impl Into<String>) -> Self {
        CloseReason { code, by: By::Peer, text: text.into() }
    }

    /// The transport has ended it.
    pub fn transport(text: impl Into<String>) -> Self {
        CloseReason { code: Code::GONE, by: By::Transport, text: text.into() }
    }

    /// The peer broke a rule of the protocol.
    pub fn protocol(text: impl Into<String>) -> Self {
        Self::us(Code::PROTOCOL, text)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            By::Us => "us",
            By::Peer => "the peer",
            By::Transport => "the transport",
        };
        write!(f, "{} by {by}: {}", self.code, self.text)
    }
}
