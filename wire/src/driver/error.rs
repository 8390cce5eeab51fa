//! Why a stream ended badly.

use std::io;

use crate::code::Code;
use crate::codec::DecodeError;
use crate::stream::Illegal;

/// Why a stream ended other than by the END of both sides.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The other end, or the gateway, reset it.
    #[error("{code}: {text}")]
    Reset {
        /// Why.
        code: Code,
        /// One line for a person.
        text: String,
    },
    /// The transport stopped without an END: bytes may be missing.
    #[error("the stream was cut before its end")]
    Cut,
    /// END names another number of bytes than came.
    #[error("the end speaks of {said} bytes, but {got} came")]
    Count {
        /// Bytes that END names.
        said: u64,
        /// Bytes that came.
        got: u64,
    },
    /// Bytes that are no record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A record that may not come now.
    #[error(transparent)]
    Order(#[from] Illegal),
    /// The connection under it failed.
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

    /// The text that came with a reset.
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
