//! The explicit encoding of events and snapshots: big-endian numbers, 32-bit lengths, one tag per kind.
//!
//! The order of fields here is the format; it changes only with a version.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::id::{EdgeId, Epoch, Home, Incarnation, NodeId, Position, Revision, ServiceId, SessionNo};

/// Why bytes cannot be decoded. Unknown tags and versions stop a node: it must not skip what others apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field is missing or incomplete.
    #[error("the bytes end too early")]
    Short,
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotText,
    /// A version or tag of newer software.
    #[error("{0} {1} is not known to this version; upgrade the node")]
    Unknown(&'static str, u32),
}

/// A value with one fixed encoding.
pub(crate) trait Field: Sized {
    fn put(&self, out: &mut BytesMut);
    fn get(from: &mut Bytes) -> Result<Self, DecodeError>;
}

macro_rules! integers {
    ($($type:ty, $put:ident, $get:ident;)*) => {$(
        impl Field for $type {
            fn put(&self, out: &mut BytesMut) {
                out.$put(*self);
            }

            fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
                from.$get().map_err(|_| DecodeError::Short)
            }
        }
    )*};
}

integers! {
    u8, put_u8, try_get_u8;
    u16, put_u16, try_get_u16;
    u32, put_u32, try_get_u32;
    u64, put_u64, try_get_u64;
}

macro_rules! records {
    ($($type:ident { $($field:tt),* })*) => {$(
        impl $crate::codec::Field for $type {
            fn put(&self, out: &mut bytes::BytesMut) {
                $($crate::codec::Field::put(&self.$field, out);)*
            }

            fn get(from: &mut bytes::Bytes) -> Result<Self, $crate::codec::DecodeError> {
                Ok($type { $($field: $crate::codec::Field::get(from)?,)* })
            }
        }
    )*};
}
pub(crate) use records;

records! {
    NodeId { 0 }
    Epoch { 0 }
    Revision { 0 }
    EdgeId { 0 }
    ServiceId { 0 }
    SessionNo { 0 }
    Incarnation { 0 }
    Position { revision, ordinal }
    Home { node, epoch, session, incarnation }
}

impl Field for bool {
    fn put(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(*self));
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        match u8::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Unknown("flag", other.into())),
        }
    }
}

impl Field for [u8; 16] {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(self);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        let mut id = [0; 16];
        from.try_copy_to_slice(&mut id).map_err(|_| DecodeError::Short)?;
        Ok(id)
    }
}

/// A slice behind its length, not copied.
pub(crate) fn slice(from: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = u32::get(from)? as usize;
    if len > from.len() {
        return Err(DecodeError::Short);
    }
    Ok(from.split_to(len))
}

impl Field for Bytes {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        // A copy: a slice would keep the whole batch or snapshot in memory.
        Ok(Bytes::copy_from_slice(&slice(from)?))
    }
}

impl Field for Box<str> {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self.as_bytes());
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(std::str::from_utf8(&slice(from)?).map_err(|_| DecodeError::NotText)?.into())
    }
}

impl Field for String {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        out.put_slice(self.as_bytes());
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Box::<str>::get(from)?.into())
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut BytesMut) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        if bool::get(from)? { T::get(from).map(Some) } else { Ok(None) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.len() as u32);
        for item in self {
            item.put(out);
        }
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        let count = u32::get(from)? as usize;
        // Each item takes a byte at least: allocate nothing for items that cannot be there.
        if count > from.len() {
            return Err(DecodeError::Short);
        }
        (0..count).map(|_| T::get(from)).collect()
    }
}

/// Reads one value that must use up the bytes.
pub(crate) fn get_all<T: Field>(mut bytes: Bytes) -> Result<T, DecodeError> {
    let value = T::get(&mut bytes)?;
    if bytes.is_empty() { Ok(value) } else { Err(DecodeError::Trailing(bytes.len())) }
}
