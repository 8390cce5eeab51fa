//! Reading without holding a buffer while nothing comes.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Room for one read, and the least worth reading into.
const CHUNK: usize = 64 << 10;
const CHUNK_MIN: usize = 8 << 10;
/// A frame that lacks more than this is read into room of its own, so that it is never moved.
const LARGE: usize = 16 << 10;

thread_local! {
    /// Room that connections of a thread share: each takes what arrived for it, and leaves the rest.
    static ROOM: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// What has been read and not yet understood.
#[derive(Default)]
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    /// The bytes are a piece of shared room, all of which they keep alive.
    shared: bool,
}

impl Input {
    /// Reads once; `need` is what the frame at the front still lacks, 0 if unknown.
    pub(super) fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        need: usize,
    ) -> Poll<io::Result<usize>> {
        if need > LARGE {
            self.bytes.reserve(need);
            self.shared = false;
            return poll_read_buf(Pin::new(io), cx, &mut self.bytes);
        }
        ROOM.with_borrow_mut(|room| {
            if room.capacity() < CHUNK_MIN + self.bytes.len() {
                // Gives the same memory again if nobody holds a piece of it any more.
                room.reserve(CHUNK.max(CHUNK_MIN + self.bytes.len()));
            }
            room.extend_from_slice(&self.bytes);
            let read = poll_read_buf(Pin::new(io), cx, room);
            match read {
                Poll::Ready(Ok(read)) if read > 0 => {
                    self.bytes = room.split();
                    self.shared = true;
                }
                _ => room.clear(),
            }
            read
        })
    }

    /// Keeps no more memory than what is still here: nothing for nothing, a copy for a piece.
    pub(super) fn settle(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        } else if self.shared {
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
        self.shared = false;
    }
}

/// Reads and forgets; ends with the stream.
pub(super) fn poll_discard<IO: AsyncRead + Unpin>(io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut input = Input::default();
    loop {
        match std::task::ready!(input.poll_fill(io, cx, 0))? {
            0 => return Poll::Ready(Ok(())),
            _ => input.bytes.clear(),
        }
    }
}
