//! One record of the log: length, checksum, group, kind, flags, payload.

use bytes::{BufMut, Bytes, BytesMut};

use crate::storage::codec::{DecodeError, Encode};
use crate::types::{LogId, Vote};

/// Bytes in front of each payload: length u32, checksum u32, group u32, kind u8, flags u8.
pub(super) const HEAD: usize = 14;
/// Bytes of the largest payload; a record with a greater length is bad.
pub(super) const PAYLOAD_MAX: usize = 64 << 20;
const LAST_OF_GROUP: u8 = 1;

/// What a record means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The header of a file: the state before it.
    Begin,
    Vote,
    Entry,
    /// The entries after an index are void.
    Truncate,
    /// The entries up to a log id are no longer needed.
    Purge,
    Committed,
}

impl Kind {
    /// The tags of format 2 begin at 17. Those of format 1, 1 to 6, were never released.
    fn tag(self) -> u8 {
        match self {
            Kind::Begin => 17,
            Kind::Vote => 18,
            Kind::Entry => 19,
            Kind::Truncate => 20,
            Kind::Purge => 21,
            Kind::Committed => 22,
        }
    }

    fn of(tag: u8) -> Option<Self> {
        [Kind::Begin, Kind::Vote, Kind::Entry, Kind::Truncate, Kind::Purge, Kind::Committed]
            .into_iter()
            .find(|kind| kind.tag() == tag)
    }
}

/// The payload of [`Kind::Begin`]: the state at the end of the files before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    /// The id of the log, the same in all its files.
    pub(super) id: u64,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// The index of the newest entry.
    pub(super) last: Option<u64>,
}

impl Encode for Begin {
    fn put(&self, out: &mut BytesMut) {
        self.id.put(out);
        self.vote.put(out);
        self.committed.put(out);
        self.purged.put(out);
        self.last.put(out);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Begin {
            id: Encode::get(from)?,
            vote: Encode::get(from)?,
            committed: Encode::get(from)?,
            purged: Encode::get(from)?,
            last: Encode::get(from)?,
        })
    }
}

/// A valid record of a file.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) group: u32,
    /// Whether it is the last of its group.
    pub(super) is_last: bool,
    pub(super) payload: Bytes,
}

impl Record {
    /// Bytes that it takes in the file.
    pub(super) fn len(&self) -> usize {
        HEAD + self.payload.len()
    }
}

/// What lies at an offset.
#[derive(Debug)]
pub(super) enum Parsed {
    Record(Record),
    /// A length of zero, or the end of the file.
    Nothing,
    Bad(&'static str),
    /// A valid record of a kind that this version does not know.
    Unknown(String),
}

/// The checksum covers the position too: a record that was copied elsewhere is invalid.
fn checksum(segment: u64, offset: u64, rest: &[u8]) -> u32 {
    let position = crc32c::crc32c_append(crc32c::crc32c(&segment.to_be_bytes()), &offset.to_be_bytes());
    crc32c::crc32c_append(position, rest)
}

/// Appends a record that will lie at `offset` of file `segment`.
pub(super) fn put(
    out: &mut BytesMut,
    segment: u64,
    offset: u64,
    group: u32,
    is_last: bool,
    kind: Kind,
    payload: &[u8],
) {
    let at = out.len();
    out.put_u32(payload.len() as u32 + 1);
    out.put_u32(0);
    out.put_u32(group);
    out.put_u8(kind.tag());
    out.put_u8(if is_last { LAST_OF_GROUP } else { 0 });
    out.put_slice(payload);
    let length_and_rest = (&out[at..at + 4], &out[at + 8..]);
    let sum = crc32c::crc32c_append(checksum(segment, offset, length_and_rest.0), length_and_rest.1);
    out[at + 4..at + 8].copy_from_slice(&sum.to_be_bytes());
}

/// Whether the head at the front of `bytes` may be that of a record of a group shortly after `group`.
/// Cheap: the checksum is not computed.
pub(super) fn may_be_record(bytes: &[u8], group: u32) -> bool {
    /// An upper bound of the groups in one file, because each group takes at least a head.
    const GROUPS: u32 = 4 << 20;
    let Some(head) = bytes.first_chunk::<HEAD>() else { return false };
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let found = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    let near = found > group && found - group < GROUPS;
    length > 0 && length <= bytes.len() && near && Kind::of(head[12]).is_some() && head[13] <= LAST_OF_GROUP
}

/// Parses what lies at `offset` of a whole file.
pub(super) fn parse_at(file: &Bytes, segment: u64, offset: usize) -> Parsed {
    if offset >= file.len() { Parsed::Nothing } else { parse(&file.slice(offset..), segment, offset as u64) }
}

/// Parses the front of `bytes`, which lie at `offset` of file `segment`.
pub(super) fn parse(bytes: &Bytes, segment: u64, offset: u64) -> Parsed {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return if bytes.iter().all(|byte| *byte == 0) {
            Parsed::Nothing
        } else {
            Parsed::Bad("a truncated head")
        };
    };
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length == 0 {
        return Parsed::Nothing;
    }
    let payload = length - 1;
    if payload > PAYLOAD_MAX {
        return Parsed::Bad("an impossible length");
    }
    let Some(record) = bytes.get(..HEAD + payload) else { return Parsed::Bad("a truncated record") };
    let stored = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let computed = crc32c::crc32c_append(checksum(segment, offset, &record[..4]), &record[8..]);
    if stored != computed {
        return Parsed::Bad("a wrong checksum");
    }
    let group = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
    match Kind::of(head[12]) {
        Some(kind) => {
            let is_last = head[13] & LAST_OF_GROUP != 0;
            let payload = bytes.slice(HEAD..HEAD + payload);
            Parsed::Record(Record { kind, group, is_last, payload })
        }
        None => Parsed::Unknown(format!("kind of record {} is not known to this version", head[12])),
    }
}
