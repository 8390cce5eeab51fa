//! Why bytes are not a packet.

/// Why a packet could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A header of another version.
    #[error("version {0} of a packet, not 1")]
    Version(u8),
    /// A type that is not defined.
    #[error("a packet of the unknown type {0:#04x}")]
    Unknown(u8),
    /// The body is longer than its limit.
    #[error("a body of {0} bytes; the limit is {1}")]
    TooLarge(usize, usize),
    /// The body is shorter than its fixed part.
    #[error("a body of {0} bytes, too short for its type")]
    Short(usize),
    /// The JSON of the body cannot be understood.
    #[error("bad JSON in a body: {0}")]
    Json(String),
}
