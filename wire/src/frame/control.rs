//! The go-away, and the frames that nodes exchange.

use bytes::{BufMut, Bytes, BytesMut};

use super::hello::get_peers;
use crate::code::Code;
use crate::codec::{DecodeError, Reader, put_names, put_text};

/// Refuses a client before the welcome, or announces the close of the connection after it (PROTOCOL 3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAway {
    /// The reason.
    pub code: Code,
    /// The reason in one line, for logs and people.
    pub text: String,
    /// Addresses of other nodes to connect to.
    pub peers: Vec<String>,
}

impl GoAway {
    /// A go-away without addresses.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        GoAway { code, text: text.into(), peers: Vec::new() }
    }

    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        out.put_u32(self.code.0);
        put_text(out, &self.text);
        put_names(out, self.peers.iter().map(String::as_str));
        Bytes::new()
    }

    pub(super) fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(GoAway { code: Code(from.u32()?), text: from.text()?, peers: get_peers(from)? })
    }
}

/// A frame of the range 0x80 to 0xff, which is reserved for nodes of the cluster (PROTOCOL 2.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The head, not decoded.
    pub head: Bytes,
    /// The body, not decoded.
    pub body: Bytes,
}
