//! The snapshot file: checksummed, and replaced as a whole.

use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use limes_routing::Tables;

use super::atomic::replace;
use super::codec::{decode, encode};
use crate::types::SnapshotMeta;

/// The file's name in the data directory.
pub(crate) const NAME: &str = "snapshot";
/// The first bytes; the digit is the format's number. Behind them: the checksum of all that follows, the
/// length of the meta data, the meta data, the tables.
const MAGIC: &[u8; 16] = b"limes-snapshot-2";
/// Bytes in front of the meta data.
const HEAD: usize = 24;

/// The tables as the bytes that a snapshot holds.
pub(crate) fn encode_tables(tables: &Tables) -> Bytes {
    let mut body = BytesMut::new();
    for chunk in tables.encode_snapshot() {
        body.extend_from_slice(&chunk);
    }
    body.freeze()
}

/// Writes the file; durable when it returns.
///
/// # Errors
/// The disk failed.
pub(crate) fn write(dir: &Path, meta: &SnapshotMeta, body: &Bytes) -> io::Result<()> {
    let meta = encode(meta);
    let len = (meta.len() as u32).to_be_bytes();
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&len), &meta), body);
    replace(dir, NAME, &[MAGIC, &sum.to_be_bytes(), &len, &meta, body])
}

/// Reads the file; `None` if there is none.
///
/// # Errors
/// The file cannot be read, is damaged ([`io::ErrorKind::InvalidData`]), or has the format of another
/// version ([`io::ErrorKind::Unsupported`]).
pub(crate) fn read(dir: &Path) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
    let file = match std::fs::read(dir.join(NAME)) {
        Ok(file) => Bytes::from(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot is damaged: {what}"));
    let (magic, rest) = file.split_first_chunk::<16>().ok_or_else(|| damaged("truncated"))?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("truncated"))?;
    if magic != MAGIC {
        let ours = magic.starts_with(&MAGIC[..15]);
        let text = "the snapshot has a format that this version does not know";
        return Err(if ours {
            io::Error::new(io::ErrorKind::Unsupported, text)
        } else {
            damaged("wrong magic bytes")
        });
    }
    if crc32c::crc32c(rest) != u32::from_be_bytes(*sum) {
        return Err(damaged("wrong checksum"));
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("truncated"))?;
    let len = u32::from_be_bytes(*len) as usize;
    if rest.len() < len {
        return Err(damaged("truncated"));
    }
    let meta: SnapshotMeta =
        decode(file.slice(HEAD..HEAD + len)).map_err(|error| damaged(&error.to_string()))?;
    Ok(Some((meta, file.slice(HEAD + len..))))
}
