//! What waits to be written.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::{Malformed, Packet};

/// Payloads up to this size are copied beside their heads: cheaper than a slice of their own.
const COPY_MAX: usize = 512;

/// Packets in order.
#[derive(Debug, Default)]
pub(super) struct Output {
    staged: VecDeque<Bytes>,
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
            self.staged.push_back(payload);
        }
        Ok(())
    }

    fn stage(&mut self) {
        if !self.tail.is_empty() {
            self.staged.push_back(self.tail.split().freeze());
        }
    }

    pub(super) fn chunks<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.stage();
        let mut set = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.staged) {
            *slice = IoSlice::new(chunk);
            set += 1;
        }
        set
    }

    pub(super) fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while written > 0 {
            let Some(front) = self.staged.front_mut() else { break };
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.staged.pop_front();
        }
        if self.bytes == 0 {
            // An idle connection holds nothing.
            *self = Output::default();
        }
    }
}
