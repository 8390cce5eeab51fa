//! The one thread that writes: it gathers what waits into a group, writes it, syncs once.

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

/// Something for the writer, in the order of the log.
pub(super) enum Job {
    /// A record at its place.
    Record { offset: u64, kind: Kind, payload: Bytes },
    /// Go on in a new file.
    Roll { segment: u64, bytes: u64 },
    /// Sync, then tell openraft.
    Flushed(IOFlushed<TypeConfig>),
    /// Sync, then tell whoever waits.
    Tell(oneshot::Sender<io::Result<()>>),
    /// Remove files, after all before is durable.
    Unlink(Vec<u64>),
}

/// What the writer holds.
pub(super) struct Writer {
    /// Nobody else opens the directory while this one may write or remove files in it.
    pub(super) _lock: Box<dyn Send>,
    pub(super) files: Arc<dyn Files>,
    pub(super) file: Arc<dyn LogFile>,
    pub(super) mark: Arc<dyn LogFile>,
    pub(super) segment: u64,
    pub(super) group: u32,
    pub(super) durable: Arc<AtomicU64>,
    pub(super) fsync_seconds: Histogram,
}

/// How far the log is durable, as one number: file and byte.
pub(super) fn position(segment: u64, offset: u64) -> u64 {
    segment << 32 | offset
}

/// One group being gathered.
#[derive(Default)]
struct Group {
    records: Vec<(u64, Kind, Bytes)>,
    bytes: usize,
    flushed: Vec<IOFlushed<TypeConfig>>,
    told: Vec<oneshot::Sender<io::Result<()>>>,
    unlink: Vec<u64>,
    wants_sync: bool,
}

impl Writer {
    /// Works until the log is dropped. After an error everything fails: what the disk holds is no
    /// longer known.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut group = Group::default();
        let mut failed: Option<String> = None;
        while let Ok(job) = jobs.recv() {
            let mut next = Some(job);
            while let Some(job) = next {
                match job {
                    Job::Roll { segment, bytes } => {
                        self.finish(&mut group, &mut failed);
                        self.roll(segment, bytes, &mut failed);
                    }
                    other => group.add(other),
                }
                next = if group.bytes < GROUP { jobs.try_recv().ok() } else { None };
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
        // What comes is told from what was cut off by the mark: it should not lag by a whole file.
        match self.mark.sync().and_then(|()| segment::create(self.files.as_ref(), segment, bytes)) {
            Ok(file) => {
                self.file = file;
                self.segment = segment;
            }
            Err(error) => *failed = Some(broken(&error)),
        }
    }

    fn finish(&mut self, group: &mut Group, failed: &mut Option<String>) {
        let group = std::mem::take(group);
        if failed.is_none()
            && let Err(error) = self.write(&group)
        {
            *failed = Some(broken(&error));
        }
        let result = || failed.as_ref().map_or(Ok(()), |text| Err(io::Error::other(text.clone())));
        for flushed in group.flushed {
            flushed.io_completed(result());
        }
        for told in group.told {
            let _ = told.send(result());
        }
        if failed.is_none() {
            for number in group.unlink {
                if let Err(error) = self.files.remove(&segment::name(number)) {
                    tracing::warn!(number, %error, "cannot remove an old file of the log");
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

/// Says so once, here: whatever comes after an error fails with the same words.
fn broken(error: &io::Error) -> String {
    tracing::error!(%error, "the raft log cannot be written: this member must stop");
    format!("the raft log cannot be written: {error}")
}

impl Group {
    fn add(&mut self, job: Job) {
        match job {
            Job::Record { offset, kind, payload } => {
                self.bytes += record::HEAD + payload.len();
                // The committed index is a hint: it goes with the next group.
                self.wants_sync |= kind != Kind::Committed;
                self.records.push((offset, kind, payload));
            }
            Job::Flushed(flushed) => {
                self.flushed.push(flushed);
                self.wants_sync = true;
            }
            Job::Tell(told) => {
                self.told.push(told);
                self.wants_sync = true;
            }
            Job::Unlink(mut numbers) => self.unlink.append(&mut numbers),
            Job::Roll { .. } => {}
        }
    }
}
