//! Reads from a socket without holding a buffer while the connection is idle.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::close::CloseReason;
use crate::code::Code;

/// Capacity for one read, in bytes, and the least that is worth reading into.
const CHUNK: usize = 64 << 10;
const CHUNK_MIN: usize = 8 << 10;
/// A frame of which more than this is missing or has arrived, in bytes, is read into a buffer of its own, so that it is
/// never moved.
const LARGE: usize = 16 << 10;
/// How long such a frame may take before the handler is asked whether there is memory for it; then it is asked again
/// after the same time.
const HOLD: Duration = Duration::from_secs(1);

thread_local! {
    /// A buffer that the connections of a thread share: each takes what arrived for it and leaves the rest.
    static SHARED: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Bytes that were read and not parsed yet.
#[derive(Default)]
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    /// The bytes are a slice of the shared buffer and keep all of it alive.
    shared: bool,
    /// When to ask the handler about the large frame that is being read.
    ask: Option<Instant>,
}

impl Input {
    /// Reads once. `need`: bytes that the frame at the front still lacks, if that is known.
    pub(super) fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        need: Option<usize>,
    ) -> Poll<io::Result<usize>> {
        // A large frame is finished in a buffer of its own: in the shared one, each read of its last bytes would
        // copy all of it.
        if let Some(need) = need.filter(|need| *need > LARGE || (*need > 0 && self.bytes.len() > LARGE)) {
            self.bytes.reserve(need);
            self.shared = false;
            return poll_read_buf(Pin::new(io), cx, &mut self.bytes);
        }
        SHARED.with_borrow_mut(|shared| {
            if shared.capacity() < CHUNK_MIN + self.bytes.len() {
                // Reuses the same memory if no slice of it is left.
                shared.reserve(CHUNK.max(CHUNK_MIN + self.bytes.len()));
            }
            shared.extend_from_slice(&self.bytes);
            let read = poll_read_buf(Pin::new(io), cx, shared);
            match read {
                Poll::Ready(Ok(read)) if read > 0 => {
                    self.bytes = shared.split();
                    self.shared = true;
                }
                _ => shared.clear(),
            }
            read
        })
    }

    /// Whether a large frame, which still lacks `need` bytes, has taken so long that the handler is to be asked about it.
    pub(super) fn is_slow(&mut self, need: usize, now: Instant) -> bool {
        if need == 0 || self.bytes.len() + need <= LARGE {
            self.ask = None;
            return false;
        }
        let due = self.ask.is_some_and(|at| now >= at);
        if due || self.ask.is_none() {
            self.ask = Some(now + HOLD);
        }
        due
    }

    /// Restarts the time of the next large frame: frames were taken from the front, or the socket is not read now.
    pub(super) fn restart_hold(&mut self) {
        self.ask = None;
    }

    /// The reason for closing the connection of a peer whose large frame arrives too slowly.
    pub(super) fn too_slow(&self, need: usize) -> CloseReason {
        let bytes = self.bytes.len() + need;
        let text = format!(
            "memory is short (limits.memory), and {need} of a frame's {bytes} bytes have not arrived"
        );
        CloseReason::us(Code::LIMIT, text)
    }

    /// When [`Input::is_slow`] is due again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ask
    }

    /// Keeps no more memory than the unparsed bytes need: none if there are none, a copy if they are a shared slice.
    pub(super) fn settle(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        } else if self.shared {
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
        self.shared = false;
    }
}

/// Reads and discards until the stream ends.
pub(super) fn poll_discard<IO: AsyncRead + Unpin>(io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut input = Input::default();
    loop {
        match std::task::ready!(input.poll_fill(io, cx, None))? {
            0 => return Poll::Ready(Ok(())),
            _ => input.bytes.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Yields one piece per read, and is pending when there is none.
    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Some(mut piece) = self.0.pop_front() else { return Poll::Pending };
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    /// Reads the next piece of a frame of `frame` bytes until the reader is pending, as a turn of the driver does.
    fn read(input: &mut Input, frame: usize, piece: Vec<u8>) {
        let (mut io, mut cx) = (Pieces([piece].into()), Context::from_waker(Waker::noop()));
        while input.poll_fill(&mut io, &mut cx, Some(frame.saturating_sub(input.bytes.len()))).is_ready() {}
        input.settle();
    }

    #[test]
    fn large_frame_is_not_moved_by_the_reads_of_its_last_bytes() {
        const FRAME: usize = 1 << 20;
        for last in [100, LARGE, LARGE + 100] {
            let mut input = Input::default();
            read(&mut input, FRAME, vec![1; 8]);
            read(&mut input, FRAME, vec![1; FRAME - 8 - last]);
            // It is moved out of the shared buffer at most once.
            read(&mut input, FRAME, vec![1]);
            let at = input.bytes.as_ptr();
            for _ in 1..last {
                read(&mut input, FRAME, vec![2]);
                assert_eq!(input.bytes.as_ptr(), at, "moved with {} bytes", input.bytes.len());
            }
            assert_eq!(input.bytes.len(), FRAME);
        }
    }

    #[test]
    fn small_frame_leaves_no_buffer_behind() {
        let mut input = Input::default();
        for byte in 0..200 {
            read(&mut input, 200, vec![byte]);
        }
        assert!(input.bytes.iter().copied().eq(0..200));
        assert!(input.bytes.capacity() < CHUNK_MIN, "{} bytes are kept", input.bytes.capacity());
        input.bytes.clear();
        input.settle();
        assert_eq!(input.bytes.capacity(), 0);
    }
}
