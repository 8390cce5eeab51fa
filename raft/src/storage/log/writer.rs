//! The writer thread: gathers the records that wait into a group, writes the group, and syncs once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use metrics::Histogram;
use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::files::{Files, LogFile};
use super::record::{self, Kind};
use super::segment::{self, Mark};
use crate::types::TypeConfig;

/// Bytes that one group may gather before it is synced.
const GROUP: usize = 8 << 20;

/// A command to the writer; they arrive in log order.
pub(super) enum Command {
    /// Write a record at its position.
    Record { offset: u64, kind: Kind, payload: Bytes },
    /// Continue in a new file.
    Roll { segment: u64, bytes: u64 },
    /// Sync, then call openraft back.
    Flushed(IOFlushed<TypeConfig>),
    /// Sync, then answer.
    Sync(oneshot::Sender<io::Result<()>>),
    /// Remove segments, once everything before is durable.
    Unlink(Vec<u64>),
}

/// The state of the writer thread.
pub(super) struct Writer {
    /// Keeps other logs out of the directory while this one may write or remove files.
    pub(super) _lock: Box<dyn Send>,
    pub(super) files: Arc<dyn Files>,
    pub(super) file: Arc<dyn LogFile>,
    pub(super) mark: Arc<dyn LogFile>,
    pub(super) segment: u64,
    pub(super) group: u32,
    /// The durable [`position`].
    pub(super) durable: Arc<AtomicU64>,
    pub(super) fsync_seconds: Histogram,
}

/// A byte of the log as one number: segment and offset.
pub(super) fn position(segment: u64, offset: u64) -> u64 {
    segment << 32 | offset
}

/// One group being gathered.
#[derive(Default)]
struct Group {
    records: Vec<(u64, Kind, Bytes)>,
    bytes: usize,
    flushed: Vec<IOFlushed<TypeConfig>>,
    synced: Vec<oneshot::Sender<io::Result<()>>>,
    unlink: Vec<u64>,
    wants_sync: bool,
}

impl Writer {
    /// Runs until the log is dropped. After the first error every command fails, because the content of the
    /// disk is unknown then.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut group = Group::default();
        let mut failed: Option<String> = None;
        while let Ok(command) = commands.recv() {
            let mut next = Some(command);
            while let Some(command) = next {
                match command {
                    Command::Roll { segment, bytes } => {
                        self.finish(&mut group, &mut failed);
                        self.roll(segment, bytes, &mut failed);
                    }
                    other => group.add(other),
                }
                next = if group.bytes < GROUP { commands.try_recv().ok() } else { None };
            }
            if group.wants_sync || group.bytes >= GROUP {
                self.finish(&mut group, &mut failed);
            }
        }
        self.finish(&mut group, &mut failed);
    }

    fn roll(&mut self, segment: u64, bytes: u64, failed: &mut Option<String>) {
        if failed.is_some() {
            return;
        }
        // The mark tells a torn tail from a truncated file: it should not lag by a whole file.
        match self.mark.sync().and_then(|()| segment::create(self.files.as_ref(), segment, bytes)) {
            Ok(file) => {
                self.file = file;
                self.segment = segment;
            }
            Err(error) => *failed = Some(log_failure(&error)),
        }
    }

    fn finish(&mut self, group: &mut Group, failed: &mut Option<String>) {
        let group = std::mem::take(group);
        if failed.is_none()
            && let Err(error) = self.write(&group)
        {
            *failed = Some(log_failure(&error));
        }
        let result = || failed.as_ref().map_or(Ok(()), |text| Err(io::Error::other(text.clone())));
        for flushed in group.flushed {
            flushed.io_completed(result());
        }
        for synced in group.synced {
            let _ = synced.send(result());
        }
        if failed.is_none() {
            for number in group.unlink {
                if let Err(error) = self.files.remove(&segment::name(number)) {
                    tracing::warn!(number, %error, "cannot remove a purged file of the raft log");
                }
            }
        }
    }

    fn write(&mut self, group: &Group) -> io::Result<()> {
        let Some((first, ..)) = group.records.first() else { return Ok(()) };
        self.group += 1;
        let mut out = BytesMut::with_capacity(group.bytes);
        for (at, (offset, kind, payload)) in group.records.iter().enumerate() {
            let is_last = at + 1 == group.records.len();
            record::put(&mut out, self.segment, *offset, self.group, is_last, *kind, payload);
        }
        self.file.write_at(&out, *first)?;
        let began = Instant::now();
        self.file.sync()?;
        self.fsync_seconds.record(began.elapsed());
        let end = first + out.len() as u64;
        self.durable.store(position(self.segment, end), Ordering::Release);
        Mark { segment: self.segment, offset: end }.write(self.mark.as_ref())
    }
}

/// Logs the first failure, and returns the text that all later commands fail with.
fn log_failure(error: &io::Error) -> String {
    tracing::error!(%error, "the raft log cannot be written: this member must stop");
    format!("the raft log cannot be written: {error}")
}

impl Group {
    fn add(&mut self, command: Command) {
        match command {
            Command::Record { offset, kind, payload } => {
                self.bytes += record::HEAD + payload.len();
                // The committed index is a hint: it is written with the next group.
                self.wants_sync |= kind != Kind::Committed;
                self.records.push((offset, kind, payload));
            }
            Command::Flushed(flushed) => {
                self.flushed.push(flushed);
                self.wants_sync = true;
            }
            Command::Sync(synced) => {
                self.synced.push(synced);
                self.wants_sync = true;
            }
            Command::Unlink(mut numbers) => self.unlink.append(&mut numbers),
            // The caller handles it: a new file begins a new group.
            Command::Roll { .. } => {}
        }
    }
}
