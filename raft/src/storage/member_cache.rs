//! The member cache: all members and their newest boots, as this member last knew them.
//!
//! A member that starts is asked about its peers before it has read its own log, by members that start at
//! the same time. It answers from this file, which is rewritten whenever a node boots or the membership
//! changes. A lost cache costs an answer, nothing else.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use limes_routing::{NodeId, Tables};

use super::atomic::replace;
use super::codec::{DecodeError, Encode, decode, encode};

const NAME: &str = "members";
const MAGIC: &[u8; 16] = b"limes-members-01";

/// A member as another member knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedMember {
    pub(crate) node: u64,
    pub(crate) name: String,
    pub(crate) mesh: String,
    pub(crate) voter: bool,
    /// The nonce of its newest boot; `None` before the first.
    pub(crate) boot: Option<[u8; 16]>,
}

/// All members at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemberCache {
    pub(crate) revision: u64,
    /// Whether the cluster has been made, that is, its first event has been applied.
    pub(crate) made: bool,
    pub(crate) members: Vec<CachedMember>,
}

impl MemberCache {
    /// The members in the tables.
    pub(crate) fn of(tables: &Tables) -> Self {
        let members = tables.members().map(|row| {
            let node = tables.node(row.node);
            let mesh = node.map(|node| node.addrs.mesh.clone()).filter(|mesh| !mesh.is_empty());
            CachedMember {
                node: row.node.0,
                name: row.name.clone(),
                mesh: mesh.unwrap_or_else(|| row.mesh.clone()),
                voter: row.voter,
                boot: node.map(|node| node.boot),
            }
        });
        let members = members.collect();
        MemberCache { revision: tables.revision().0, made: tables.cluster().is_some(), members }
    }

    /// The nonce of a member's newest boot: from this cache if it is newer than the tables, else from the
    /// tables.
    pub(crate) fn newest_boot(&self, tables: &Tables, node: u64) -> Option<[u8; 16]> {
        let cached = self.members.iter().find(|member| member.node == node);
        match cached.filter(|_| tables.revision().0 < self.revision) {
            Some(cached) => cached.boot,
            None => tables.node(NodeId(node)).map(|row| row.boot),
        }
    }

    /// Reads the file; the empty cache if it is missing or damaged.
    pub(crate) fn read(dir: &Path) -> Self {
        let file = std::fs::read(dir.join(NAME)).map(Bytes::from).unwrap_or_default();
        let cache = || {
            let (body, sum) = file.split_last_chunk::<4>()?;
            let sound = crc32c::crc32c(body).to_be_bytes() == *sum && body.starts_with(MAGIC);
            sound.then(|| decode(file.slice(MAGIC.len()..body.len())).ok())?
        };
        cache().unwrap_or_default()
    }

    /// Writes the file; durable when it returns.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn write(&self, dir: &Path) -> std::io::Result<()> {
        let body = encode(self);
        let sum = crc32c::crc32c_append(crc32c::crc32c(MAGIC), &body).to_be_bytes();
        replace(dir, NAME, &[MAGIC, &body, &sum])
    }
}

impl Encode for CachedMember {
    fn put(&self, out: &mut BytesMut) {
        self.node.put(out);
        self.name.put(out);
        self.mesh.put(out);
        self.voter.put(out);
        let boot: &[u8] = self.boot.as_ref().map_or(&[], |boot| boot);
        Bytes::copy_from_slice(boot).put(out);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(CachedMember {
            node: Encode::get(from)?,
            name: Encode::get(from)?,
            mesh: Encode::get(from)?,
            voter: Encode::get(from)?,
            boot: Bytes::get(from)?.as_ref().try_into().ok(),
        })
    }
}

impl Encode for MemberCache {
    fn put(&self, out: &mut BytesMut) {
        self.revision.put(out);
        self.made.put(out);
        self.members.put(out);
    }

    fn get(from: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(MemberCache {
            revision: Encode::get(from)?,
            made: Encode::get(from)?,
            members: Encode::get(from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of format 01: a boot is a length and its bytes, an unknown boot a length of zero.
    #[test]
    fn member_before_its_first_boot_has_an_empty_boot_field() {
        let member = |boot| CachedMember { node: 3, name: "n".into(), mesh: "m".into(), voter: true, boot };
        let head = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, b'n', 0, 0, 0, 1, b'm', 1];
        assert_eq!(encode(&member(None)), [&head[..], &[0, 0, 0, 0]].concat());
        assert_eq!(encode(&member(Some([9; 16]))), [&head[..], &[0, 0, 0, 16], &[9; 16]].concat());
    }

    #[test]
    fn member_cache_survives_a_round_trip() {
        let member =
            |node, boot| CachedMember { node, name: "n".into(), mesh: "m".into(), voter: true, boot };
        let cache =
            MemberCache { revision: 7, made: true, members: vec![member(1, None), member(2, Some([9; 16]))] };
        let dir = tempfile::tempdir().unwrap();
        cache.write(dir.path()).unwrap();
        assert_eq!(MemberCache::read(dir.path()), cache);
    }
}
