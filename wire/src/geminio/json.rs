//! JSON objects as Go's `encoding/json` reads and writes them.
//!
//! Reading accepts keys in any order and letter case, unknown keys, and `null` for an absent value. Writing puts keys in
//! a fixed order, omits empty values, and escapes `<`, `>` and `&`.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use super::malformed::Malformed;
use super::time::Time;

/// Go's `base64.StdEncoding`: requires padding, ignores stray bits at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// A value that is read from an object, member by member.
pub(super) trait Object: Default {
    /// Reads the value of a key, which is in lower case.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an object.
pub(super) fn read<T: Object>(json: &[u8]) -> Result<T, Malformed> {
    // Go replaces invalid UTF-8 and does not fail.
    let text = match std::str::from_utf8(json) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(json),
    };
    let mut from = serde_json::Deserializer::from_str(&text);
    let object = Members(PhantomData).deserialize(&mut from);
    let object = object.and_then(|object| from.end().map(|()| object));
    object.map_err(|error| Malformed::Json(error.to_string()))
}

/// The value of a key as an object of its own; `null` leaves it empty.
pub(super) fn object<'de, T: Object, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error> {
    map.next_value_seed(Members(PhantomData))
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Object> DeserializeSeed<'de> for Members<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: Object> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(mut key) = map.next_key::<String>()? {
            key.make_ascii_lowercase();
            object.take(&key, &mut map)?;
        }
        Ok(object)
    }
}

/// The value of a key as bytes in base64.
pub(super) fn bytes<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Bytes, A::Error> {
    map.next_value_seed(Base64)
}

struct Base64;

impl<'de> DeserializeSeed<'de> for Base64 {
    type Value = Bytes;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Bytes, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Base64 {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes in base64")
    }

    fn visit_unit<E>(self) -> Result<Bytes, E> {
        Ok(Bytes::new())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        // Go's decoder skips line ends.
        let decoded = if text.contains(['\r', '\n']) {
            BASE64.decode(text.replace(['\r', '\n'], ""))
        } else {
            BASE64.decode(text)
        };
        decoded.map(Bytes::from).map_err(E::custom)
    }
}

/// The value of a key as text.
pub(super) fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    Ok(map.next_value::<Option<String>>()?.unwrap_or_default())
}

/// The value of a key as a time; Go's zero time is none.
pub(super) fn time<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Time>, A::Error> {
    match map.next_value::<Option<String>>()? {
        None => Ok(None),
        Some(text) => Time::parse(&text).ok_or_else(|| A::Error::custom("no RFC 3339 time")),
    }
}

/// Writes one object at the end of `out`.
pub(super) struct Writer<'a> {
    out: &'a mut BytesMut,
    some: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut BytesMut) -> Self {
        out.put_u8(b'{');
        Writer { out, some: false }
    }

    fn key(&mut self, key: &str) -> &mut BytesMut {
        if self.some {
            self.out.put_u8(b',');
        }
        self.some = true;
        self.out.put_u8(b'"');
        self.out.put_slice(key.as_bytes());
        self.out.put_slice(b"\":");
        self.out
    }

    /// Writes bytes, unless they are empty.
    pub(super) fn bytes(&mut self, key: &str, bytes: &[u8]) -> &mut Self {
        if !bytes.is_empty() {
            let out = self.key(key);
            out.put_u8(b'"');
            let at = out.len();
            let len = bytes.len().div_ceil(3) * 4;
            out.resize(at + len, 0);
            // The buffer has exactly the encoded length: this cannot fail.
            let _ = BASE64.encode_slice(bytes, &mut out[at..]);
            out.put_u8(b'"');
        }
        self
    }

    /// Writes a text, unless it is empty.
    pub(super) fn text(&mut self, key: &str, text: &str) -> &mut Self {
        if !text.is_empty() {
            quote(self.key(key), text);
        }
        self
    }

    /// Writes a number, unless it is zero.
    pub(super) fn number(&mut self, key: &str, number: i64) -> &mut Self {
        if number != 0 {
            self.key(key).put_slice(number.to_string().as_bytes());
        }
        self
    }

    /// Writes a time; Go's zero time if there is none.
    pub(super) fn time(&mut self, key: &str, time: Option<Time>) -> &mut Self {
        let out = self.key(key);
        match time {
            None => out.put_slice(b"\"0001-01-01T00:00:00Z\""),
            Some(time) => out.put_slice(format!("\"{time}\"").as_bytes()),
        }
        self
    }

    /// Writes an object.
    pub(super) fn object(&mut self, key: &str, write: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        let mut inner = Writer::new(self.key(key));
        write(&mut inner);
        inner.end();
        self
    }

    pub(super) fn end(&mut self) {
        self.out.put_u8(b'}');
    }
}

fn quote(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    for char in text.chars() {
        match char {
            '"' => out.put_slice(b"\\\""),
            '\\' => out.put_slice(b"\\\\"),
            '\n' => out.put_slice(b"\\n"),
            '\r' => out.put_slice(b"\\r"),
            '\t' => out.put_slice(b"\\t"),
            '\u{8}' => out.put_slice(b"\\b"),
            '\u{c}' => out.put_slice(b"\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.put_slice(format!("\\u{:04x}", u32::from(char)).as_bytes());
            }
            _ => out.put_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.put_u8(b'"');
}
