//! Reads and writes the fields of a frame's head, within bounds.
//!
//! Integers are big-endian. Strings and byte strings have a 16-bit length, lists a 16-bit count. Every length is checked
//! against its limit (PROTOCOL 9.1) and against the bytes that are there before anything is taken (PROTOCOL 2.4).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits;
use crate::text::Str;

/// Why a head, a record or a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field is missing or incomplete.
    #[error("a field is cut short")]
    Short,
    /// A field is longer than its limit.
    #[error("{0} is longer than {1} bytes or items")]
    TooLong(&'static str, usize),
    /// A text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    /// An undefined value.
    #[error("{0} is not defined for {1}")]
    Unknown(u32, &'static str),
    /// A tagged field that is required.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// Reads the fields of a head in order; bytes that are left at the end are ignored (PROTOCOL 2.6).
#[derive(Debug)]
pub struct Reader(pub Bytes);

impl Reader {
    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| DecodeError::Short)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.0.try_get_u16().map_err(|_| DecodeError::Short)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.0.try_get_u32().map_err(|_| DecodeError::Short)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.0.try_get_u64().map_err(|_| DecodeError::Short)
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn id(&mut self) -> Result<[u8; 16], DecodeError> {
        let mut id = [0; 16];
        self.0.try_copy_to_slice(&mut id).map_err(|_| DecodeError::Short)?;
        Ok(id)
    }

    /// A byte string of at most `max` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] or [`DecodeError::TooLong`].
    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(DecodeError::TooLong(what, max));
        }
        if len > self.0.len() {
            return Err(DecodeError::Short);
        }
        Ok(self.0.split_to(len))
    }

    /// The next tagged field (PROTOCOL 3.1): its tag and a reader of its value; `None` at the end.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn field(&mut self) -> Result<Option<(u8, Reader)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (tag, len) = (self.u8()?, usize::from(self.u16()?));
        if len > self.0.len() {
            return Err(DecodeError::Short);
        }
        Ok(Some((tag, Reader(self.0.split_to(len)))))
    }

    /// The remaining bytes, at most `max`.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`].
    pub fn rest(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        if self.0.len() > max {
            return Err(DecodeError::TooLong(what, max));
        }
        Ok(std::mem::take(&mut self.0))
    }

    /// The remaining bytes as a name.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] or [`DecodeError::NotText`].
    pub fn rest_name(&mut self) -> Result<String, DecodeError> {
        let name = Str::try_from(self.rest("name", limits::NAME_MAX)?);
        Ok(name.map_err(|_| DecodeError::NotText("name"))?.to_string())
    }

    /// Text of at most `max` bytes.
    ///
    /// # Errors
    /// As [`Reader::bytes`], or [`DecodeError::NotText`].
    pub fn str(&mut self, what: &'static str, max: usize) -> Result<Str, DecodeError> {
        Str::try_from(self.bytes(what, max)?).map_err(|_| DecodeError::NotText(what))
    }

    /// The name of a method, topic or service.
    ///
    /// # Errors
    /// As [`Reader::str`].
    pub fn name(&mut self) -> Result<Str, DecodeError> {
        self.str("name", limits::NAME_MAX)
    }

    /// A text for people.
    ///
    /// # Errors
    /// As [`Reader::str`].
    pub fn text(&mut self) -> Result<String, DecodeError> {
        Ok(self.str("text", limits::TEXT_MAX)?.to_string())
    }

    /// A list of at most `max` names.
    ///
    /// # Errors
    /// As [`Reader::str`].
    pub fn names(&mut self, what: &'static str, max: usize) -> Result<Vec<Str>, DecodeError> {
        let count = usize::from(self.u16()?);
        if count > max {
            return Err(DecodeError::TooLong(what, max));
        }
        // Each takes two bytes at least: allocate nothing for names that cannot be there.
        if count * 2 > self.0.len() {
            return Err(DecodeError::Short);
        }
        (0..count).map(|_| self.name()).collect()
    }
}

/// Writes a byte string, cut at 65,535 bytes (callers check their limits before).
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let len = bytes.len().min(usize::from(u16::MAX));
    out.put_u16(len as u16);
    out.put_slice(&bytes[..len]);
}

/// Writes a tagged field, cut at 65,535 bytes (callers check their limits before).
pub fn put_field(out: &mut BytesMut, tag: u8, put: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u16(0);
    put(out);
    out.truncate(out.len().min(at + 2 + usize::from(u16::MAX)));
    let len = (out.len() - at - 2) as u16;
    out[at..at + 2].copy_from_slice(&len.to_be_bytes());
}

/// Writes a text for people, cut at [`limits::TEXT_MAX`] on a character boundary.
pub fn put_text(out: &mut BytesMut, text: &str) {
    let mut end = text.len().min(limits::TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_bytes(out, &text.as_bytes()[..end]);
}

/// Writes a list of names.
pub fn put_names<'a>(out: &mut BytesMut, names: impl ExactSizeIterator<Item = &'a str>) {
    let count = names.len().min(usize::from(u16::MAX));
    out.put_u16(count as u16);
    for name in names.take(count) {
        put_bytes(out, name.as_bytes());
    }
}
