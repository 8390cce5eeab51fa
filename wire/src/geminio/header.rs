//! The header of a packet.

use super::malformed::Malformed;

/// Bytes of a header.
pub const HEADER: usize = 14;
/// Largest body, in bytes; the peers' own limit.
pub const BODY_MAX: usize = 10 << 20;
/// The only version.
pub(super) const VERSION: u8 = 1;

/// Type, id and body length of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The packet's type.
    pub kind: u8,
    /// The id, chosen by the sender; an answer repeats it.
    pub id: u64,
    /// Bytes of the body; not checked against a limit yet.
    pub len: usize,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`Malformed::Version`].
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, Malformed> {
        let [version, kind, i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3] = bytes;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let id = u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]);
        Ok(Header { kind, id, len: u32::from_be_bytes([l0, l1, l2, l3]) as usize })
    }

    /// The header in its wire form.
    pub fn encode(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        (out[0], out[1]) = (VERSION, self.kind);
        out[2..10].copy_from_slice(&self.id.to_be_bytes());
        out[10..].copy_from_slice(&(self.len as u32).to_be_bytes());
        out
    }
}
