//! Registering methods and subscribing to topics (PROTOCOL 6).

use bytes::{BufMut, Bytes, BytesMut};

use crate::code::Code;
use crate::codec::{DecodeError, Reader, put_names, put_text};
use crate::limits;
use crate::text::Str;

/// Names to register, withdraw, subscribe to or unsubscribe from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Repeated in the [`Done`].
    pub id: u64,
    /// The methods or topics.
    pub names: Vec<Str>,
}

impl Names {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        out.put_u64(self.id);
        put_names(out, self.names.iter().map(|name| &**name));
        Bytes::new()
    }

    pub(super) fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Names { id: from.u64()?, names: from.names("names", limits::NAMES_MAX)? })
    }
}

/// The answer to a change of names. After OK, every node routes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The id of the [`Names`].
    pub id: u64,
    /// OK, or why nothing has changed.
    pub code: Code,
    /// The reason in one line, for logs and people.
    pub text: String,
}

impl Done {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        out.put_u64(self.id);
        out.put_u32(self.code.0);
        put_text(out, &self.text);
        Bytes::new()
    }

    pub(super) fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Done { id: from.u64()?, code: Code(from.u32()?), text: from.text()? })
    }
}
