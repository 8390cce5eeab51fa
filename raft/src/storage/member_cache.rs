//! What this member knows of all members and their lives, kept beside the log.
//!
//! A member that starts is asked by others that start too, before it has read its own log. So what
//! it knows is written down whenever it changes, which is when a node starts or the members change.
//! Losing it costs an answer, nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use limes_routing::{NodeId, Tables};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::consensus::member::Member;
use crate::storage::codec::{DecodeError, Encode, decode, encode};
use crate::storage::identity::replace;

const NAME: &str = "members";
const MAGIC: &[u8; 16] = b"limes-members-01";
/// How often it is seen whether it has changed.
const LOOK: Duration = Duration::from_millis(100);

/// A member as others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acquaintance {
    pub(crate) node: u64,
    pub(crate) name: String,
    pub(crate) mesh: String,
    pub(crate) voter: bool,
    /// The nonce of its newest life; empty before the first.
    pub(crate) boot: Bytes,
}

/// All members, as of a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) revision: u64,
    /// Whether the cluster has been made.
    pub(crate) made: bool,
    pub(crate) members: Vec<Acquaintance>,
}

impl Known {
    /// What the tables say.
    pub(crate) fn of(tables: &Tables) -> Self {
        let members = tables.members().map(|row| {
            let life = tables.node(row.node);
            let addrs = life.map(|life| life.addrs.mesh.clone()).filter(|mesh| !mesh.is_empty());
            Acquaintance {
                node: row.node.0,
                name: row.name.clone(),
                mesh: addrs.unwrap_or_else(|| row.mesh.clone()),
                voter: row.voter,
                boot: life.map_or_else(Bytes::new, |life| Bytes::copy_from_slice(&life.boot)),
            }
        });
        let members = members.collect();
        Known { revision: tables.revision().0, made: tables.cluster().is_some(), members }
    }

    /// The nonce of a member's newest life: by the tables, or by this if they have not come as far yet.
    pub(crate) fn boot(&self, tables: &Tables, node: u64) -> Bytes {
        let known = self.members.iter().find(|member| member.node == node);
        match known.filter(|_| tables.revision().0 < self.revision) {
            Some(known) => known.boot.clone(),
            None => {
                tables.node(NodeId(node)).map_or_else(Bytes::new, |row| Bytes::copy_from_slice(&row.boot))
            }
        }
    }

    /// What was written down last; nothing if it is missing or damaged.
    pub(crate) fn read(dir: &Path) -> Self {
        let file = std::fs::read(dir.join(NAME)).map(Bytes::from).unwrap_or_default();
        let known = || {
            let (body, sum) = file.split_last_chunk::<4>()?;
            let sound = crc32c::crc32c(body).to_be_bytes() == *sum && body.starts_with(MAGIC);
            sound.then(|| decode(file.slice(MAGIC.len()..body.len())).ok())?
        };
        known().unwrap_or_default()
    }

    fn write(&self, dir: &Path) -> std::io::Result<()> {
        let body = encode(self);
        let sum = crc32c::crc32c_append(crc32c::crc32c(MAGIC), &body).to_be_bytes();
        replace(dir, NAME, &[MAGIC, &body, &sum])
    }
}

impl Encode for Acquaintance {
    fn put(&self, out: &mut BytesMut) {
        self.node.put(out);
        self.name.put(out);
        self.mesh.put(out);
        self.voter.put(out);
        self.boot.put(out);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Acquaintance {
            node: Encode::get(from)?,
            name: Encode::get(from)?,
            mesh: Encode::get(from)?,
            voter: Encode::get(from)?,
            boot: Encode::get(from)?,
        })
    }
}

impl Encode for Known {
    fn put(&self, out: &mut BytesMut) {
        self.revision.put(out);
        self.made.put(out);
        self.members.put(out);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(Known { revision: Encode::get(from)?, made: Encode::get(from)?, members: Encode::get(from)? })
    }
}

/// Writes it down whenever it has changed.
pub(crate) async fn keep(member: Arc<Member>) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = Known::read(&member.shared.dir);
    let mut seen = None;
    loop {
        tick.tick().await;
        let revision = *member.shared.applied().borrow();
        if seen == Some(revision) {
            continue;
        }
        seen = Some(revision);
        let known = member.shared.read(Known::of);
        if known.members == kept.members && known.made == kept.made {
            continue;
        }
        let (dir, stored) = (member.shared.dir.clone(), known.clone());
        match tokio::task::spawn_blocking(move || stored.write(&dir)).await {
            Ok(Ok(())) => kept = known,
            other => warn!(?other, "what is known of the members cannot be written down"),
        }
    }
}
