//! The folder that a log lives in: what it asks of a file system, and the real one.
//!
//! Tests put one there that fails, and that keeps at a crash only what was synced.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a directory that is in use is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How often it is tried.
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// A folder of files. Every call may block.
pub trait Files: Send + Sync + 'static {
    /// Makes the folder and takes it for this process until the guard is dropped.
    ///
    /// # Errors
    /// The disk failed, or somebody else has had it for long.
    fn lock(&self) -> io::Result<Box<dyn Send>>;

    /// The names of all files.
    ///
    /// # Errors
    /// The disk failed.
    fn list(&self) -> io::Result<Vec<String>>;

    /// All bytes of a file.
    ///
    /// # Errors
    /// It is not there, or the disk failed.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Opens a file for reading and writing; makes it if it is not there.
    ///
    /// # Errors
    /// The disk failed.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Opens a file that is there, for reading.
    ///
    /// # Errors
    /// It is not there, or the disk failed.
    fn open_for_reading(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Removes a file; its name may be back after a crash.
    ///
    /// # Errors
    /// The disk failed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names of files durable.
    ///
    /// # Errors
    /// The disk failed.
    fn sync(&self) -> io::Result<()>;

    /// A file's path, for what people read.
    fn path(&self, name: &str) -> PathBuf;

    /// Bytes that a segment is preallocated with; an entry that is larger gets a file of its size.
    fn segment_bytes(&self) -> u64 {
        16 << 20
    }
}

/// One open file.
pub trait LogFile: Send + Sync {
    /// Fills the buffer from an offset on.
    ///
    /// # Errors
    /// The file ends before, or the disk failed.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// The disk failed: what is there now is not known.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file `keep` bytes long, then `bytes`, of which the rest are zeros that take no more
    /// room when they are overwritten.
    ///
    /// # Errors
    /// The disk failed or is full.
    fn shape(&self, keep: u64, bytes: u64) -> io::Result<()>;

    /// Makes the file's bytes durable. After an error nobody knows what is.
    ///
    /// # Errors
    /// The disk failed.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of this path; it need not be there yet.
    pub fn new(path: &Path) -> Self {
        Folder(path.to_owned())
    }
}

impl Files for Folder {
    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let failed = at(&self.0);
        std::fs::create_dir_all(&self.0).map_err(&failed)?;
        let file = File::open(&self.0).map_err(&failed)?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Box::new(file)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_AGAIN),
                Err(TryLockError::WouldBlock) => {
                    let text = format!("{} is in use by another process", self.0.display());
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
                }
            }
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(at(&self.0))? {
            if let Ok(name) = entry.map_err(at(&self.0))?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name);
        std::fs::read(&path).map_err(at(&path))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        OnDisk::open(self.path(name), OpenOptions::new().read(true).write(true).create(true).truncate(false))
    }

    fn open_for_reading(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        OnDisk::open(self.path(name), OpenOptions::new().read(true))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        std::fs::remove_file(&path).map_err(at(&path))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(at(&self.0))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// An error with the path that it is about; its kind stays.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

struct OnDisk {
    file: File,
    path: PathBuf,
}

impl OnDisk {
    fn open(path: PathBuf, how: &OpenOptions) -> io::Result<Arc<dyn LogFile>> {
        let file = how.open(&path).map_err(at(&path))?;
        Ok(Arc::new(OnDisk { file, path }))
    }

    fn shape(&self, keep: u64, bytes: u64) -> io::Result<()> {
        self.file.set_len(keep)?;
        let length = i64::try_from(bytes).map_err(io::Error::other)?;
        match nix::fcntl::posix_fallocate(&self.file, 0, length) {
            // Not every file system can: a sparse file does as well, only slower.
            Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => self.file.set_len(bytes),
            other => Ok(other?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // Synced, but nobody will ever find it: what is acknowledged now would be lost with the process.
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "a file of it was removed while in use"));
        }
        Ok(())
    }
}

impl LogFile for OnDisk {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset).map_err(at(&self.path))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(at(&self.path))
    }

    fn shape(&self, keep: u64, bytes: u64) -> io::Result<()> {
        OnDisk::shape(self, keep, bytes).map_err(at(&self.path))
    }

    fn sync(&self) -> io::Result<()> {
        OnDisk::sync(self).map_err(at(&self.path))
    }
}
