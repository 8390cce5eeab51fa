//! Text on the wire.

/// UTF-8 text that is a slice of the bytes it arrived in: cloning copies nothing, and the bytes are checked once,
/// when it is made.
pub type Str = bytestring::ByteString;
