//! The directory of a log: what the log needs of a file system, and the implementation on a real one.
//!
//! Tests replace it by a file system that fails, and that keeps only synced bytes when it crashes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::storage::atomic::{sync, with_path};

/// How long to wait for a directory that another process, or a log that is closing, still uses.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// Pause between two attempts to lock; a file lock gives no notification with a time limit.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A directory of files. Every call may block.
pub trait Files: Send + Sync + 'static {
    /// Makes the directory and locks it for this process until the guard is dropped.
    ///
    /// # Errors
    /// The disk failed, or another process has held the lock for 30 s.
    fn lock(&self) -> io::Result<Box<dyn Send>>;

    /// The names of all files.
    ///
    /// # Errors
    /// The disk failed.
    fn list(&self) -> io::Result<Vec<String>>;

    /// All bytes of a file.
    ///
    /// # Errors
    /// The file does not exist, or the disk failed.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Opens a file for reading and writing; makes it if it does not exist.
    ///
    /// # Errors
    /// The disk failed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Opens an existing file for reading.
    ///
    /// # Errors
    /// The file does not exist, or the disk failed.
    fn open_for_reading(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Removes a file; after a crash it may exist again.
    ///
    /// # Errors
    /// The disk failed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names of files durable.
    ///
    /// # Errors
    /// The disk failed.
    fn sync(&self) -> io::Result<()>;

    /// A file's path, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// Bytes that a segment is preallocated with; a larger entry gets a file of its size.
    fn segment_bytes(&self) -> u64 {
        16 << 20
    }
}

/// One open file.
pub trait LogFile: Send + Sync {
    /// Fills the buffer with the bytes at an offset.
    ///
    /// # Errors
    /// The file is too short ([`io::ErrorKind::UnexpectedEof`]), or the disk failed.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// The disk failed; the content is unknown then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Truncates the file to `keep` bytes, then extends it with zeros to `bytes`. The zeros are allocated:
    /// overwriting them needs no more disk space.
    ///
    /// # Errors
    /// The disk failed or is full.
    fn resize(&self, keep: u64, bytes: u64) -> io::Result<()>;

    /// Makes the file's bytes durable. After an error it is unknown which bytes are durable.
    ///
    /// # Errors
    /// The disk failed.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The directory at this path; it need not exist yet.
    pub fn new(path: &Path) -> Self {
        Folder(path.to_owned())
    }
}

impl Files for Folder {
    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let failed = with_path(&self.0);
        std::fs::create_dir_all(&self.0).map_err(&failed)?;
        let file = File::open(&self.0).map_err(&failed)?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Box::new(file)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let text = format!("{} is in use by another process", self.0.display());
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
                }
            }
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(with_path(&self.0))? {
            if let Ok(name) = entry.map_err(with_path(&self.0))?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name);
        std::fs::read(&path).map_err(with_path(&path))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        OnDisk::open(self.path(name), OpenOptions::new().read(true).write(true).create(true).truncate(false))
    }

    fn open_for_reading(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        OnDisk::open(self.path(name), OpenOptions::new().read(true))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        std::fs::remove_file(&path).map_err(with_path(&path))
    }

    fn sync(&self) -> io::Result<()> {
        sync(&self.0)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

struct OnDisk {
    file: File,
    path: PathBuf,
}

impl OnDisk {
    fn open(path: PathBuf, how: &OpenOptions) -> io::Result<Arc<dyn LogFile>> {
        let file = how.open(&path).map_err(with_path(&path))?;
        Ok(Arc::new(OnDisk { file, path }))
    }

    fn resize(&self, keep: u64, bytes: u64) -> io::Result<()> {
        self.file.set_len(keep)?;
        let length = i64::try_from(bytes).map_err(io::Error::other)?;
        match nix::fcntl::posix_fallocate(&self.file, 0, length) {
            // Not every file system can preallocate: a sparse file works as well, only slower.
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => self.file.set_len(bytes),
            other => Ok(other?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // A file without a name is synced but cannot be found again: its entries would be lost with the
        // process.
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "a file of the log was removed while in use",
            ));
        }
        Ok(())
    }
}

impl LogFile for OnDisk {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset).map_err(with_path(&self.path))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(with_path(&self.path))
    }

    fn resize(&self, keep: u64, bytes: u64) -> io::Result<()> {
        OnDisk::resize(self, keep, bytes).map_err(with_path(&self.path))
    }

    fn sync(&self) -> io::Result<()> {
        OnDisk::sync(self).map_err(with_path(&self.path))
    }
}
