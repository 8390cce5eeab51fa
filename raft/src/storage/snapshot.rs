//! Snapshots on disk: one file, checked, replaced whole.

use std::io::{self, Cursor};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use limes_routing::Tables;
use openraft::RaftSnapshotBuilder;

use crate::consensus::state_machine::Shared;
use crate::storage::codec::{decode, encode};
use crate::storage::identity;
use crate::types::{LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, TypeConfig};

const NAME: &str = "snapshot";
/// What the file begins with; the number is the format's. Then: checksum of all that follows, length
/// of the meta, meta, tables.
const MAGIC: &[u8; 16] = b"limes-snapshot-2";

/// Builds one snapshot from a cheap copy of the tables, beside apply.
pub struct Builder {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tables: Tables,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let began = Instant::now();
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        let (tables, shared) = (self.tables.clone(), self.shared.clone());
        let stored = meta.clone();
        let body = tokio::task::spawn_blocking(move || {
            let mut body = BytesMut::new();
            for chunk in tables.encode_snapshot() {
                body.extend_from_slice(&chunk);
            }
            let body = body.freeze();
            save(&shared, &stored, &body).map(|()| body)
        })
        .await
        .map_err(io::Error::other)??;
        self.shared.metrics.snapshot_build_seconds.record(began.elapsed());
        tracing::info!(applied = ?self.applied, bytes = body.len(), "snapshot written");
        Ok(Snapshot { meta, snapshot: Cursor::new(body) })
    }
}

/// Replaces the snapshot on disk, unless that is newer; durable when it returns.
pub(crate) fn save(shared: &Shared, meta: &SnapshotMeta, body: &Bytes) -> io::Result<()> {
    let index = meta.last_log_id.map_or(0, |last| last.index);
    let mut saved = shared.saved.lock().unwrap_or_else(PoisonError::into_inner);
    if index < *saved {
        return Ok(());
    }
    write(&shared.dir, meta, body)?;
    *saved = index;
    Ok(())
}

/// Writes a snapshot's file; durable when it returns.
pub(crate) fn write(dir: &Path, meta: &SnapshotMeta, body: &Bytes) -> io::Result<()> {
    let meta = encode(meta);
    let len = (meta.len() as u32).to_be_bytes();
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&len), &meta), body);
    identity::replace(dir, NAME, &[MAGIC, &sum.to_be_bytes(), &len, &meta, body])
}

/// Reads the snapshot on disk; `None` if there is none.
///
/// # Errors
/// It cannot be read, or it is damaged.
pub(crate) fn read(dir: &Path) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
    let file = match std::fs::read(dir.join(NAME)) {
        Ok(file) => Bytes::from(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot is damaged: {what}"));
    let (magic, rest) = file.split_first_chunk::<16>().ok_or_else(|| damaged("cut"))?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("cut"))?;
    if magic != MAGIC {
        let ours = magic.starts_with(&MAGIC[..15]);
        let text = "the snapshot has a format that this version does not know";
        return Err(if ours {
            io::Error::new(io::ErrorKind::Unsupported, text)
        } else {
            damaged("a wrong begin")
        });
    }
    if crc32c::crc32c(rest) != u32::from_be_bytes(*sum) {
        return Err(damaged("a wrong checksum"));
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("cut"))?;
    let len = u32::from_be_bytes(*len) as usize;
    if rest.len() < len {
        return Err(damaged("cut"));
    }
    let meta: SnapshotMeta = decode(file.slice(24..24 + len)).map_err(|error| damaged(&error.to_string()))?;
    Ok(Some((meta, file.slice(24 + len..))))
}
