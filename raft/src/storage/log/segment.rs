//! The files of the log: numbered segments, and the high-water mark.

use std::io;
use std::sync::Arc;

use super::files::{Files, LogFile};

/// The name of the high-water mark's file.
pub(super) const MARK: &str = "mark";

/// The name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:012}.seg")
}

/// The numbers of the segments in the directory, ascending.
pub(super) fn list(files: &dyn Files) -> io::Result<Vec<u64>> {
    let number = |found: String| {
        let number = found.strip_suffix(".seg")?.parse().ok()?;
        // A file under another spelling of the number is not a segment.
        (name(number) == found).then_some(number)
    };
    let mut numbers: Vec<u64> = files.list()?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes the file of a segment with `bytes` preallocated; its name is durable when this returns.
pub(super) fn create(files: &dyn Files, number: u64, bytes: u64) -> io::Result<Arc<dyn LogFile>> {
    let file = files.open(&name(number))?;
    file.resize(0, bytes)?;
    file.sync()?;
    files.sync()?;
    Ok(file)
}

/// Opens the last segment for writing and zeroes everything from `end` on. The bytes from `durable` to `end`
/// are written again: after a failed sync the kernel shows bytes that the disk never got, and does not retry
/// by itself.
pub(super) fn reopen(
    files: &dyn Files,
    number: u64,
    durable: u64,
    end: u64,
) -> io::Result<(Arc<dyn LogFile>, u64)> {
    let file = files.open(&name(number))?;
    let bytes = files.segment_bytes().max(end);
    file.resize(end, bytes)?;
    if durable < end {
        let length = usize::try_from(end - durable).map_err(io::Error::other)?;
        let mut rewritten = vec![0; length];
        file.read_at(&mut rewritten, durable)?;
        file.write_at(&rewritten, durable)?;
    }
    file.sync()?;
    Ok((file, bytes))
}

/// The high-water mark: how far the log was durable at the last acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// The mark of a log without records.
pub(super) const BEGINNING: Mark = Mark { segment: 1, offset: 0 };

impl Mark {
    /// Reads the mark; `None` if it is missing or damaged.
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
