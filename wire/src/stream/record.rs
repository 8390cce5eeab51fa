//! The records of a stream.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::code::Code;
use crate::codec::{DecodeError, Reader, put_bytes, put_text};
use crate::limits;
use crate::text::Str;

/// Bytes in front of each record: kind and length.
pub const RECORD_HEAD: usize = 5;
/// The kind of DATA, for writers that write the payload themselves.
pub const DATA_HEAD: u8 = 3;

const OPEN: u8 = 1;
const ACCEPT: u8 = 2;
const END: u8 = 4;
const RESET: u8 = 5;

/// The first record of the opening side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Open {
    /// Towards the gateway: the edge to reach (from a service) or 0. From the gateway: the id of the opener.
    pub peer: u64,
    /// The service to reach (from an edge), or the purpose of the stream.
    pub name: Str,
    /// The time left for the accept.
    pub deadline: Duration,
    /// Opaque data for the receiver.
    pub meta: Bytes,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Opens the stream.
    Open(Open),
    /// The receiver accepts the stream, with meta of its own.
    Accept(Bytes),
    /// Payload.
    Data(Bytes),
    /// Ends this direction; the number of bytes that were sent in it.
    End(u64),
    /// Resets both directions.
    Reset(Code, String),
}

/// The kind and length of a record, within its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    kind: u8,
    /// Bytes of the record behind the head.
    pub len: usize,
}

impl RecordHead {
    /// Reads a record's head.
    ///
    /// # Errors
    /// An unknown kind, or a length over its limit.
    pub fn decode(bytes: [u8; RECORD_HEAD]) -> Result<Self, DecodeError> {
        let [kind, l0, l1, l2, l3] = bytes;
        let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let max = match kind {
            OPEN | ACCEPT => limits::RECORD_MAX,
            DATA_HEAD => limits::DATA_MAX,
            END => 8,
            RESET => limits::TEXT_MAX + 8,
            other => return Err(DecodeError::Unknown(other.into(), "a record's kind")),
        };
        if len > max {
            return Err(DecodeError::TooLong("record", max));
        }
        Ok(RecordHead { kind, len })
    }

    /// The head of a DATA record.
    pub fn data(len: usize) -> [u8; RECORD_HEAD] {
        Self::encode(DATA_HEAD, len)
    }

    /// Whether it is DATA, whose bytes may be passed on as they arrive.
    pub fn is_data(self) -> bool {
        self.kind == DATA_HEAD
    }

    /// Whether it is END or RESET, the last record of its direction.
    pub fn is_last(self) -> bool {
        self.kind == END || self.kind == RESET
    }

    /// Whether it is RESET.
    pub fn is_reset(self) -> bool {
        self.kind == RESET
    }

    fn encode(kind: u8, len: usize) -> [u8; RECORD_HEAD] {
        let [l0, l1, l2, l3] = (len as u32).to_be_bytes();
        [kind, l0, l1, l2, l3]
    }

    /// Reads the record behind this head.
    ///
    /// # Errors
    /// A field is incomplete, too long or undefined.
    pub fn record(self, bytes: Bytes) -> Result<Record, DecodeError> {
        let mut from = Reader(bytes);
        Ok(match self.kind {
            OPEN => Record::Open(Open {
                peer: from.u64()?,
                deadline: Duration::from_millis(from.u32()?.into()),
                name: from.name()?,
                meta: from.0,
            }),
            ACCEPT => Record::Accept(from.0),
            DATA_HEAD => Record::Data(from.0),
            END => Record::End(from.u64()?),
            _ => Record::Reset(Code(from.u32()?), from.text()?),
        })
    }
}

impl Record {
    /// The record in its wire form.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        let kind = match self {
            Record::Open(open) => {
                body.put_u64(open.peer);
                body.put_u32(u32::try_from(open.deadline.as_millis()).unwrap_or(u32::MAX));
                put_bytes(&mut body, open.name.as_bytes());
                body.put_slice(&open.meta);
                OPEN
            }
            Record::Accept(meta) => {
                body.put_slice(meta);
                ACCEPT
            }
            Record::Data(data) => {
                body.put_slice(data);
                DATA_HEAD
            }
            Record::End(sent) => {
                body.put_u64(*sent);
                END
            }
            Record::Reset(code, text) => {
                body.put_u32(code.0);
                put_text(&mut body, text);
                RESET
            }
        };
        let mut out = BytesMut::with_capacity(RECORD_HEAD + body.len());
        out.put_slice(&RecordHead::encode(kind, body.len()));
        out.put_slice(&body);
        out.freeze()
    }
}
