//! The files of the log: segments by number, and the high-water mark.

use std::io;
use std::sync::Arc;

use super::files::{Files, LogFile};

pub(super) const MARK: &str = "mark";

/// The name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:012}.seg")
}

/// The numbers of the segments that are there, in order.
pub(super) fn list(files: &dyn Files) -> io::Result<Vec<u64>> {
    let number = |found: String| {
        let number = found.strip_suffix(".seg")?.parse().ok()?;
        // A copy under another spelling is none of ours.
        (name(number) == found).then_some(number)
    };
    let mut numbers: Vec<u64> = files.list()?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes a segment's file, with its blocks; it is durable as a name when this returns.
pub(super) fn create(files: &dyn Files, number: u64, bytes: u64) -> io::Result<Arc<dyn LogFile>> {
    let file = files.open(&name(number))?;
    file.shape(0, bytes)?;
    file.sync()?;
    files.sync()?;
    Ok(file)
}

/// Opens the last segment for writing; everything from `end` on becomes zeros. What lies behind
/// `sure` is written again: after a sync that failed, the kernel shows bytes that the disk never got,
/// and does not try again by itself.
pub(super) fn reopen(
    files: &dyn Files,
    number: u64,
    sure: u64,
    end: u64,
) -> io::Result<(Arc<dyn LogFile>, u64)> {
    let file = files.open(&name(number))?;
    let bytes = files.segment_bytes().max(end);
    file.shape(end, bytes)?;
    if sure < end {
        let length = usize::try_from(end - sure).map_err(io::Error::other)?;
        let mut unsure = vec![0; length];
        file.read_at(&mut unsure, sure)?;
        file.write_at(&unsure, sure)?;
    }
    file.sync()?;
    Ok((file, bytes))
}

/// How far the log was durable when it was last acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Before the first file.
pub(super) const BEGINNING: Mark = Mark { segment: 1, offset: 0 };

impl Mark {
    /// The mark; `None` if it is missing or damaged.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn read(files: &dyn Files) -> io::Result<Option<Mark>> {
        match files.read(MARK) {
            Ok(bytes) => Ok(Mark::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Mark> {
        let bytes: &[u8; 20] = bytes.try_into().ok()?;
        let (fields, sum) = bytes.split_at(16);
        if crc32c::crc32c(fields).to_be_bytes() != *sum {
            return None;
        }
        let (segment, offset) = fields.split_at(8);
        Some(Mark {
            segment: u64::from_be_bytes(segment.try_into().ok()?),
            offset: u64::from_be_bytes(offset.try_into().ok()?),
        })
    }

    /// Writes the mark without a sync: it is a lower bound.
    pub(super) fn write(self, file: &dyn LogFile) -> io::Result<()> {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.segment.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_be_bytes());
        let sum = crc32c::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&sum.to_be_bytes());
        file.write_at(&bytes, 0)
    }
}
