//! Tells yamux frames from limes frames: a yamux frame begins with its version, 0.

use bytes::{Bytes, BytesMut};

use crate::close::CloseReason;
use crate::code::Code;
use crate::limits;

/// Bytes of a yamux header.
pub(super) const HEADER: usize = 12;
/// The type of the frame that ends a session.
pub(super) const GO_AWAY: u8 = 3;

/// The payload bytes behind a yamux header: only data frames (type 0) have any.
pub(super) fn payload(header: &[u8; HEADER]) -> usize {
    if header[1] == 0 {
        u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize
    } else {
        0
    }
}

/// Bytes of the current yamux frame that have not arrived yet.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    left: usize,
}

impl Inbound {
    /// Takes bytes of yamux frames from the front; `None`: the bytes belong to a limes frame, or are too few to tell.
    pub(super) fn take(&mut self, bytes: &mut BytesMut) -> Result<Option<Bytes>, CloseReason> {
        if self.left == 0 {
            match bytes.first_chunk::<HEADER>() {
                Some(header) if header[0] == 0 => {
                    let payload = payload(header);
                    // PROTOCOL 9.1.
                    if payload > limits::YAMUX_DATA_MAX {
                        let text = format!("a yamux frame of {payload} bytes");
                        return Err(CloseReason::us(Code::TOO_LARGE, text));
                    }
                    self.left = HEADER + payload;
                }
                _ => return Ok(None),
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let part = bytes.split_to(self.left.min(bytes.len())).freeze();
        self.left -= part.len();
        Ok(Some(part))
    }
}
