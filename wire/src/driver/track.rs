//! Follows the records of one direction of a relayed stream.

use crate::codec::DecodeError;
use crate::stream::{RECORD_HEAD, RecordHead};

/// The position within the records of one direction; holds none of them.
#[derive(Debug, Default)]
pub(super) struct Track {
    head: [u8; RECORD_HEAD],
    /// Bytes of the head that have arrived.
    have: usize,
    /// Bytes that the record still lacks.
    left: usize,
    /// The record is the last of its direction.
    last: bool,
    reset: bool,
}

impl Track {
    /// Processes the next bytes.
    ///
    /// # Errors
    /// The bytes are not records, or follow the last record.
    pub(super) fn see(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skip = self.left.min(bytes.len());
                self.left -= skip;
                bytes = &bytes[skip..];
                continue;
            }
            if self.last {
                return Err(DecodeError::TooLong("stream after its end", 0));
            }
            let take = (RECORD_HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have == RECORD_HEAD {
                let head = RecordHead::decode(self.head)?;
                (self.have, self.left) = (0, head.len);
                (self.last, self.reset) = (head.is_last(), head.is_reset());
            }
        }
        Ok(())
    }

    /// Whether a new record may begin here.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether END or RESET has arrived in full.
    pub(super) fn is_ended(&self) -> bool {
        self.last && self.left == 0
    }

    /// Whether it ended with RESET.
    pub(super) fn is_reset(&self) -> bool {
        self.reset && self.is_ended()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::code::Code;
    use crate::stream::Record;

    #[test]
    fn end_is_recognised_however_the_bytes_are_split() {
        let records = [Record::Accept(Bytes::new()), Record::Data(vec![1; 300].into()), Record::End(300)];
        let bytes: Vec<u8> = records.iter().flat_map(|record| record.encode()).collect();
        for cut in 0..bytes.len() {
            let mut track = Track::default();
            track.see(&bytes[..cut]).unwrap();
            assert!(!track.is_ended());
            track.see(&bytes[cut..]).unwrap();
            assert!(track.is_ended() && track.is_between() && !track.is_reset());
            assert!(track.see(&[3]).is_err());
        }
    }

    #[test]
    fn reset_is_an_end_and_an_unknown_kind_is_an_error() {
        let mut track = Track::default();
        track.see(&Record::Reset(Code::GONE, "x".into()).encode()).unwrap();
        assert!(track.is_reset());
        assert!(Track::default().see(&[9, 0, 0, 0, 0]).is_err());
    }
}
