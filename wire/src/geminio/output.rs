//! The output queue.

use std::io::IoSlice;

use bytes::BytesMut;

use super::malformed::Malformed;
use super::packet::Packet;
use crate::staged::{COPY_MAX, Staged};

/// Encoded packets, in order.
#[derive(Debug, Default)]
pub(super) struct Output {
    staged: Staged,
    tail: BytesMut,
    bytes: usize,
}

impl Output {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, packet: &Packet) -> Result<(), Malformed> {
        let before = self.tail.len();
        let payload = packet.encode(&mut self.tail)?;
        self.bytes += self.tail.len() - before + payload.len();
        if payload.len() <= COPY_MAX {
            self.tail.extend_from_slice(&payload);
        } else {
            self.stage();
            self.staged.0.push_back(payload);
        }
        Ok(())
    }

    fn stage(&mut self) {
        if !self.tail.is_empty() {
            self.staged.0.push_back(self.tail.split().freeze());
        }
    }

    pub(super) fn chunks<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.stage();
        self.staged.show(slices)
    }

    pub(super) fn advance(&mut self, written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        self.staged.advance(written);
        if self.bytes == 0 {
            // An idle connection holds no buffer.
            *self = Output::default();
        }
    }
}
