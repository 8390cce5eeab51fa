//! The files of the log: segments by number, and the high-water mark.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes that a segment is preallocated with; an entry that is larger gets a file of its size.
pub(super) const SEGMENT: u64 = 16 << 20;
const MARK: &str = "mark";

/// The path of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.seg"))
}

/// The numbers of the segments that are there, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg")).map(str::parse);
        if let Some(Ok(number)) = number {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// How long a directory that is in use is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How often it is tried.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// Takes the directory for this process, until the file is dropped or the process ends.
pub(super) fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_AGAIN),
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is in use by another process", dir.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
        }
    }
}

/// Makes a segment's file, with its blocks; it is durable as a name when this returns.
pub(super) fn create(dir: &Path, number: u64, bytes: u64) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path(dir, number))?;
    allocate(&file, bytes)?;
    file.sync_all()?;
    sync_dir(dir)?;
    Ok(file)
}

/// Opens the last segment for writing; everything from `end` on becomes zeros.
pub(super) fn reopen(dir: &Path, number: u64, end: u64) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().read(true).write(true).open(path(dir, number))?;
    file.set_len(end)?;
    let bytes = SEGMENT.max(end);
    allocate(&file, bytes)?;
    file.sync_all()?;
    Ok((file, bytes))
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    match nix::fcntl::posix_fallocate(file, 0, length) {
        // Not every file system can: a sparse file does as well, only slower.
        Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => file.set_len(bytes),
        other => Ok(other?),
    }
}

/// Makes names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// How far the log was durable when it was last acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Opens the mark's file.
pub(super) fn open_mark(dir: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(MARK))
}

impl Mark {
    /// The mark, if there is one that can be read.
    pub(super) fn read(dir: &Path) -> Option<Mark> {
        let bytes = std::fs::read(dir.join(MARK)).ok()?;
        let (fields, sum) = bytes.first_chunk::<20>()?.split_at(16);
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
    pub(super) fn write(self, file: &File) -> io::Result<()> {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.segment.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_be_bytes());
        let sum = crc32c::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&sum.to_be_bytes());
        file.write_all_at(&bytes, 0)
    }
}
