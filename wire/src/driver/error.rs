//! Why a stream failed.

use std::io;

use crate::code::Code;
use crate::codec::DecodeError;
use crate::stream::Illegal;

/// Why a stream ended without the END of both sides.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other end, or the gateway, reset the stream.
    #[error("{code}: {text}")]
    Reset {
        /// The reason.
        code: Code,
        /// The reason in one line, for logs and people.
        text: String,
    },
    /// The transport stopped without an END: bytes may be missing.
    #[error("the stream ended without an END: bytes may be missing")]
    Cut,
    /// END names another number of bytes than arrived.
    #[error("END names {said} bytes, but {got} arrived")]
    Count {
        /// Bytes that END names.
        said: u64,
        /// Bytes that arrived.
        got: u64,
    },
    /// Bytes that are not a record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A record that is not allowed now.
    #[error(transparent)]
    Order(#[from] Illegal),
    /// The connection of the stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl StreamError {
    /// The error's code.
    pub fn code(&self) -> Code {
        match self {
            StreamError::Reset { code, .. } => *code,
            StreamError::Cut | StreamError::Io(_) => Code::GONE,
            _ => Code::PROTOCOL,
        }
    }

    /// The text of a reset.
    pub fn text(&self) -> &str {
        match self {
            StreamError::Reset { text, .. } => text,
            _ => "",
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Io(error) => error,
            StreamError::Decode(_) | StreamError::Order(_) | StreamError::Count { .. } => {
                io::Error::new(io::ErrorKind::InvalidData, error)
            }
            _ => io::Error::new(io::ErrorKind::ConnectionReset, error),
        }
    }
}
