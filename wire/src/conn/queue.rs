//! The output queue: limes frames first, yamux frames behind them, each whole.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use super::yamux;
use crate::frame::Frame;
use crate::staged::{COPY_MAX, Staged};

/// Yamux bytes that are staged at a time: a call waits for no more than these.
const YAMUX_TURN: usize = 64 << 10;

/// The output of one connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    staged: Staged,
    /// Limes frames in order; `tail` comes last.
    limes: VecDeque<Bytes>,
    tail: BytesMut,
    /// Runs of whole yamux frames.
    yamux: VecDeque<Bytes>,
    /// A yamux frame that is not complete yet.
    partial: BytesMut,
    bytes: usize,
}

impl Queue {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    pub(super) fn frame(&mut self, frame: Frame) {
        let before = self.tail.len();
        let body = frame.encode(&mut self.tail);
        self.bytes += self.tail.len() - before + body.len();
        if body.len() <= COPY_MAX {
            self.tail.extend_from_slice(&body);
        } else {
            self.limes.push_back(self.tail.split().freeze());
            self.limes.push_back(body);
        }
    }

    /// Adds bytes of yamux frames; whole frames become runs, which stay in one piece. True: one of the frames ends the
    /// yamux session.
    pub(super) fn yamux(&mut self, bytes: BytesMut) -> bool {
        self.bytes += bytes.len();
        // Copies nothing if the bytes are adjacent in memory.
        self.partial.unsplit(bytes);
        let (mut run, mut is_over) = (0, false);
        while let Some(header) =
            self.partial.get(run..).and_then(|rest| rest.first_chunk::<{ yamux::HEADER }>())
        {
            let end = run + yamux::HEADER + yamux::payload(header);
            if self.partial.len() < end {
                break;
            }
            is_over |= header[1] == yamux::GO_AWAY;
            run = end;
            if run >= YAMUX_TURN {
                self.yamux.push_back(self.partial.split_to(run).freeze());
                run = 0;
            }
        }
        if run > 0 {
            self.yamux.push_back(self.partial.split_to(run).freeze());
        }
        is_over
    }

    fn stage(&mut self) {
        if !self.staged.0.is_empty() {
            return;
        }
        self.staged.0.append(&mut self.limes);
        if !self.tail.is_empty() {
            self.staged.0.push_back(std::mem::take(&mut self.tail).freeze());
        }
        let mut turn = 0;
        while turn < YAMUX_TURN {
            let Some(frame) = self.yamux.pop_front() else {
                break;
            };
            turn += frame.len();
            self.staged.0.push_back(frame);
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
            *self = Queue { partial: std::mem::take(&mut self.partial), ..Queue::default() };
        }
    }
}
