//! Who this member is: the cluster's id and its own number, beside the log.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

const NAME: &str = "identity";
const MAGIC: &[u8; 8] = b"limes-id";

/// The cluster's id and the member's number; never changed once written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: u64,
}

/// Reads the identity; `None` for an empty directory.
///
/// # Errors
/// It is there and cannot be read, or is damaged.
pub(crate) fn read(dir: &Path) -> io::Result<Option<Identity>> {
    let bytes = match std::fs::read(dir.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the identity file is damaged");
    let bytes: [u8; 36] = bytes.try_into().map_err(|_| damaged())?;
    let (body, sum) = bytes.split_at(32);
    if crc32c::crc32c(body).to_be_bytes() != *sum || body[..8] != *MAGIC {
        return Err(damaged());
    }
    let cluster = body[8..24].try_into().map_err(|_| damaged())?;
    let node = u64::from_be_bytes(body[24..].try_into().map_err(|_| damaged())?);
    Ok(Some(Identity { cluster, node }))
}

/// Writes the identity; durable when it returns.
pub(crate) fn write(dir: &Path, identity: Identity) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(36);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&identity.cluster);
    bytes.extend_from_slice(&identity.node.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    let fresh = dir.join("identity.new");
    let mut file = File::create(&fresh)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(fresh, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}
