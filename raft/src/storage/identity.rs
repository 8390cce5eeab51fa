//! Who this member is, beside the log: the cluster's id, its own number, and how often it has lived.
//!
//! A life begins with each start. Its number is durable here before anybody hears of it, so a member
//! that others know in a later life than its own directory does has got an old copy of it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rand::RngCore;

use crate::storage::log::files::at;

const NAME: &str = "identity";
const MAGIC: &[u8; 8] = b"limes-id";
/// The format's number. Format 1 had none in its place, and was never released.
const FORMAT: u8 = 2;
/// Bytes of the file.
const LEN: usize = 8 + 1 + 16 + 8 + 8 + 4 + 4 + 4;

/// The cluster's id and the member's number, never changed once written; and its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: u64,
    /// The log that belongs to it.
    pub(crate) log: u64,
    /// How often the member has been started.
    pub(crate) lives: u32,
    /// Drawn for the newest life: an old copy that was started counts it a second time.
    pub(crate) salt: u32,
}

impl Identity {
    /// The next life, durable when this returns.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn next_life(self, dir: &Path) -> io::Result<Self> {
        let next = Identity { lives: self.lives + 1, salt: rand::rng().next_u32(), ..self };
        write(dir, next)?;
        Ok(next)
    }

    /// The nonce of this life.
    pub(crate) fn boot(&self) -> [u8; 16] {
        let mut boot = [0; 16];
        boot[..8].copy_from_slice(&self.log.to_be_bytes());
        boot[8..12].copy_from_slice(&self.lives.to_be_bytes());
        boot[12..].copy_from_slice(&self.salt.to_be_bytes());
        boot
    }

    /// Whether a nonce is that of a life which this directory has seen.
    pub(crate) fn has_lived(&self, boot: [u8; 16]) -> bool {
        let lives = u32::from_be_bytes([boot[8], boot[9], boot[10], boot[11]]);
        boot[..8] == self.log.to_be_bytes()
            && (lives < self.lives || lives == self.lives && boot[12..] == self.salt.to_be_bytes())
    }
}

/// Reads the identity; `None` for an empty directory.
///
/// # Errors
/// It is there and cannot be read, is damaged ([`io::ErrorKind::InvalidData`]), or is of other
/// software ([`io::ErrorKind::Unsupported`]).
pub(crate) fn read(dir: &Path) -> io::Result<Option<Identity>> {
    let bytes = match std::fs::read(dir.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the identity file is damaged");
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    if crc32c::crc32c(body).to_be_bytes() != *sum || !body.starts_with(MAGIC) {
        return Err(damaged());
    }
    if body.get(MAGIC.len()) != Some(&FORMAT) || bytes.len() != LEN {
        let text = "the identity file has a format that this version does not know";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let number = |at: usize| body[at..at + 8].try_into().map(u64::from_be_bytes).map_err(|_| damaged());
    Ok(Some(Identity {
        cluster: body[9..25].try_into().map_err(|_| damaged())?,
        node: number(25)?,
        log: number(33)?,
        lives: body[41..45].try_into().map(u32::from_be_bytes).map_err(|_| damaged())?,
        salt: body[45..49].try_into().map(u32::from_be_bytes).map_err(|_| damaged())?,
    }))
}

/// Writes the identity; durable when it returns.
pub(crate) fn write(dir: &Path, identity: Identity) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&identity.cluster);
    bytes.extend_from_slice(&identity.node.to_be_bytes());
    bytes.extend_from_slice(&identity.log.to_be_bytes());
    bytes.extend_from_slice(&identity.lives.to_be_bytes());
    bytes.extend_from_slice(&identity.salt.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    replace(dir, NAME, &[&bytes])
}

/// Bytes written before they are made durable.
const SYNCED: usize = 2 << 20;

/// Replaces a file whole; durable when it returns.
pub(crate) fn replace(dir: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    let write = || {
        let mut file = File::create(&fresh)?;
        // Bit by bit: the log shares the disk, and would wait for all of a large file at once.
        for piece in parts.iter().flat_map(|part| part.chunks(SYNCED)) {
            file.write_all(piece)?;
            if piece.len() == SYNCED {
                file.sync_data()?;
            }
        }
        file.sync_all()
    };
    write().map_err(at(&fresh))?;
    std::fs::rename(&fresh, dir.join(name)).map_err(at(&fresh))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(dir))
}

/// A cluster's id as people read it.
pub fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::with_capacity(id.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
