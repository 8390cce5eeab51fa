//! The identity file: the cluster id, the member's number, and how often the member has booted.
//!
//! Each start of the process is a *boot*. Its nonce is durable here before any other member learns it.
//! So if another member knows a later boot than the directory does, the directory is an old copy.

use std::io;
use std::path::Path;

use rand::RngCore;

use super::atomic::replace;

const NAME: &str = "identity";
const MAGIC: &[u8; 8] = b"limes-id";
/// The format's number. Format 1 had another byte in its place and was never released.
const FORMAT: u8 = 2;
/// Bytes of the file.
const LEN: usize = 8 + 1 + 16 + 8 + 8 + 4 + 4 + 4;

/// The cluster id and the member's number, which never change once written, and the member's boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: u64,
    /// The id of the log that belongs to this identity.
    pub(crate) log: u64,
    /// How often the member has booted.
    pub(crate) boots: u32,
    /// Random, drawn at each boot. It tells two directories apart that both counted the same boot, as the
    /// original and a copy of it do.
    pub(crate) salt: u32,
}

impl Identity {
    /// The identity of the next boot, durable when this returns.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn next_boot(self, dir: &Path) -> io::Result<Self> {
        let next = Identity { boots: self.boots + 1, salt: rand::rng().next_u32(), ..self };
        write(dir, next)?;
        Ok(next)
    }

    /// The nonce of this boot.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.log.to_be_bytes());
        nonce[8..12].copy_from_slice(&self.boots.to_be_bytes());
        nonce[12..].copy_from_slice(&self.salt.to_be_bytes());
        nonce
    }

    /// Whether the nonce is that of this boot or of an earlier boot of this directory.
    pub(crate) fn includes(&self, nonce: [u8; 16]) -> bool {
        let boots = u32::from_be_bytes([nonce[8], nonce[9], nonce[10], nonce[11]]);
        nonce[..8] == self.log.to_be_bytes()
            && (boots < self.boots || boots == self.boots && nonce[12..] == self.salt.to_be_bytes())
    }
}

/// Reads the identity; `None` for an empty directory.
///
/// # Errors
/// The file exists but cannot be read, is damaged ([`io::ErrorKind::InvalidData`]), or has the format of
/// another version ([`io::ErrorKind::Unsupported`]).
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
        boots: body[41..45].try_into().map(u32::from_be_bytes).map_err(|_| damaged())?,
        salt: body[45..49].try_into().map(u32::from_be_bytes).map_err(|_| damaged())?,
    }))
}

/// Writes the identity; durable when it returns.
///
/// # Errors
/// The disk failed.
pub(crate) fn write(dir: &Path, identity: Identity) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&identity.cluster);
    bytes.extend_from_slice(&identity.node.to_be_bytes());
    bytes.extend_from_slice(&identity.log.to_be_bytes());
    bytes.extend_from_slice(&identity.boots.to_be_bytes());
    bytes.extend_from_slice(&identity.salt.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    replace(dir, NAME, &[&bytes])
}
