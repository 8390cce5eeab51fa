//! Pieces that are being written, in a fixed order.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bodies up to this size, in bytes, are copied behind their heads: cheaper than a slice of their own.
pub(crate) const COPY_MAX: usize = 512;

/// The next output of a connection, in pieces that are not copied.
#[derive(Debug, Default)]
pub(crate) struct Staged(pub(crate) VecDeque<Bytes>);

impl Staged {
    /// Fills `slices` with the first pieces; gives how many slices were filled.
    pub(crate) fn show<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut set = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.0) {
            *slice = IoSlice::new(piece);
            set += 1;
        }
        set
    }

    /// Removes the first `written` bytes.
    pub(crate) fn advance(&mut self, mut written: usize) {
        while written > 0 {
            let Some(front) = self.0.front_mut() else { break };
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.0.pop_front();
        }
    }
}
