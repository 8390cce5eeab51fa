//! Why bytes are not a packet.

/// Why a packet cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The header has another version.
    #[error("a packet of version {0}; only version 1 is supported")]
    Version(u8),
    /// The type is not defined.
    #[error("a packet of the unknown type {0:#04x}")]
    Unknown(u8),
    /// The body is longer than its limit.
    #[error("a body of {0} bytes is over the limit of {1}")]
    TooLarge(usize, usize),
    /// The body is shorter than its fixed part.
    #[error("a body of {0} bytes, too short for its type")]
    Short(usize),
    /// The JSON of the body is invalid.
    #[error("invalid JSON in a body: {0}")]
    Json(String),
}
