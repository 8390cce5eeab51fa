//! Going away, and what nodes say to each other.

use bytes::{BufMut, Bytes, BytesMut};

use super::hello::get_peers;
use crate::code::Code;
use crate::codec::{DecodeError, Reader, put_names, put_text};

/// A refusal (instead of the welcome) or a farewell: the receiver finishes and leaves (PROTOCOL 3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAway {
    /// Why.
    pub code: Code,
    /// One line for a person.
    pub text: String,
    /// Addresses to go to instead.
    pub peers: Vec<String>,
}

impl GoAway {
    /// A go-away that names no other address.
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

/// A frame of the range 0x80 to 0xff, which is the cluster's own (PROTOCOL 2.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The head, not looked at.
    pub head: Bytes,
    /// The body, not looked at.
    pub body: Bytes,
}
