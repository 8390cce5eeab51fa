//! A disk in memory that fails on request. At a crash it keeps what was synced, and a random part of the
//! rest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use limes_raft::log::files::{Files, LogFile};
use rand::Rng;
use rand::rngs::StdRng;

/// Bytes that a disk writes atomically.
const SECTOR: usize = 512;

/// The kinds of calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    Sync,
    /// Preallocation.
    Resize,
    Any,
}

/// A disk in memory.
#[derive(Clone)]
pub struct Fragile(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    /// Names and their files: as a process sees them, and as the disk has them.
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    files: Vec<Stored>,
    segment: u64,
    locked: bool,
    calls: u64,
    /// The power is lost at this call.
    crash_at: Option<u64>,
    /// Kind, number of calls of this kind that still succeed, and error number of the one that fails.
    fail: Option<(Call, u64, i32)>,
}

#[derive(Default, Clone)]
struct Stored {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl World {
    fn call(&mut self, call: Call) -> io::Result<()> {
        self.calls += 1;
        if self.crash_at.is_some_and(|at| self.calls > at) {
            return Err(io::Error::other("the power was lost"));
        }
        if let Some((kind, left, errno)) = self.fail
            && (kind == call || kind == Call::Any)
        {
            if left == 0 {
                self.fail = None;
                return Err(io::Error::from_raw_os_error(errno));
            }
            self.fail = Some((kind, left - 1, errno));
        }
        Ok(())
    }
}

impl Fragile {
    /// An empty disk for segments of this size.
    pub fn new(segment: u64) -> Self {
        Fragile(Arc::new(Mutex::new(World { segment, ..World::default() })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub fn crash_at(&self, call: u64) {
        self.world().crash_at = Some(call);
    }

    pub fn fail(&self, call: Call, after: u64, errno: i32) {
        self.world().fail = Some((call, after, errno));
    }

    /// The disk after a power loss: of what was not synced, a random choice of sectors and names is kept.
    pub fn after_crash(&self, random: &mut StdRng) -> Fragile {
        let world = self.world();
        let mut names = world.durable.clone();
        for name in world.names.keys().chain(world.durable.keys()).collect::<BTreeSet<_>>() {
            if world.names.get(name) != world.durable.get(name) && random.random() {
                match world.names.get(name) {
                    Some(file) => names.insert(name.clone(), *file),
                    None => names.remove(name),
                };
            }
        }
        let mut files = world.files.clone();
        for file in &mut files {
            let mut left = file.durable.clone();
            if random.random() {
                left.resize(file.now.len(), 0);
            }
            for sector in &file.dirty {
                let from = sector * SECTOR;
                let to = (from + SECTOR).min(file.now.len());
                if from < to && random.random() {
                    left.resize(left.len().max(to), 0);
                    left[from..to].copy_from_slice(&file.now[from..to]);
                }
            }
            *file = Stored { now: left.clone(), durable: left, dirty: BTreeSet::new() };
        }
        let durable = names.clone();
        let fresh = World { names, durable, files, segment: world.segment, ..World::default() };
        Fragile(Arc::new(Mutex::new(fresh)))
    }

    /// A copy of what a process sees, all of it durable.
    pub fn copy(&self) -> Fragile {
        let copy = Fragile::new(self.world().segment);
        for name in self.names() {
            copy.put(&name, self.bytes(&name));
        }
        copy
    }

    pub fn names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.files[world.names[name]].now.clone()
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut world = self.world();
        let file = world.files.len();
        world.files.push(Stored { now: bytes.clone(), durable: bytes, dirty: BTreeSet::new() });
        world.names.insert(name.to_owned(), file);
        world.durable.insert(name.to_owned(), file);
    }

    pub fn delete(&self, name: &str) {
        let mut world = self.world();
        world.names.remove(name);
        world.durable.remove(name);
    }
}

struct Lock(Fragile);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.world().locked = false;
    }
}

impl Files for Fragile {
    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut world = self.world();
            if !world.locked {
                world.locked = true;
                return Ok(Box::new(Lock(self.clone())));
            }
            drop(world);
            assert!(Instant::now() < until, "the earlier log was not closed");
            std::thread::yield_now();
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let world = self.world();
        let file = world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(world.files[*file].now.clone())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut world = self.world();
        let file = match world.names.get(name) {
            Some(file) => *file,
            None => {
                world.call(Call::Any)?;
                world.files.push(Stored::default());
                let file = world.files.len() - 1;
                world.names.insert(name.to_owned(), file);
                file
            }
        };
        Ok(Arc::new(OneFile(self.clone(), file)))
    }

    fn open_for_reading(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let file = *self.world().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(OneFile(self.clone(), file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.call(Call::Any)?;
        world.names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world();
        world.call(Call::Sync)?;
        world.durable = world.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("fragile").join(name)
    }

    fn segment_bytes(&self) -> u64 {
        self.world().segment
    }
}

struct OneFile(Fragile, usize);

impl LogFile for OneFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let world = self.0.world();
        let from = offset as usize;
        let bytes = world.files[self.1].now.get(from..from + into.len());
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.0.world();
        let failed = world.call(Call::Write);
        // A failed write, and one at the power loss, may have written a part.
        let written = if failed.is_ok() { bytes.len() } else { bytes.len() / 2 };
        let (from, to) = (offset as usize, offset as usize + written);
        let file = &mut world.files[self.1];
        if file.now.len() < to {
            file.now.resize(to, 0);
        }
        file.now[from..to].copy_from_slice(&bytes[..written]);
        file.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
        failed
    }

    fn resize(&self, keep: u64, bytes: u64) -> io::Result<()> {
        let mut world = self.0.world();
        world.call(Call::Resize)?;
        let file = &mut world.files[self.1];
        file.now.truncate(keep as usize);
        let from = file.now.len();
        file.now.resize(bytes as usize, 0);
        file.dirty.extend(from / SECTOR..(bytes as usize).div_ceil(SECTOR));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.0.world();
        let failed = world.call(Call::Sync);
        let crashed = world.crash_at.is_some_and(|at| world.calls > at);
        let file = &mut world.files[self.1];
        if failed.is_ok() {
            file.durable = file.now.clone();
        }
        // As on Linux: after an error the pages count as clean, and the next sync succeeds without writing
        // them.
        if !crashed {
            file.dirty.clear();
        }
        failed
    }
}
