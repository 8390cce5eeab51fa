//! Reading without holding a buffer while nothing comes.

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

/// Room for one read, and the least worth reading into.
const CHUNK: usize = 64 << 10;
const CHUNK_MIN: usize = 8 << 10;
/// A frame that lacks more than this, or of which more has come, is read into room of its own, so that it is
/// never moved.
const LARGE: usize = 16 << 10;
/// How long such a frame may take until its owner is asked whether there is memory for it, and asked again.
const HOLD: Duration = Duration::from_secs(1);

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
    /// When to ask about the large frame that is being read.
    ask: Option<Instant>,
}

impl Input {
    /// Reads once; `need` is what the frame at the front still lacks, 0 if unknown.
    pub(super) fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        need: usize,
    ) -> Poll<io::Result<usize>> {
        // A frame that has grown large is finished in room of its own: in the shared one, each read of its last
        // bytes would copy all of it.
        if need > LARGE || (need > 0 && self.bytes.len() > LARGE) {
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

    /// Whether a large frame, which lacks so many bytes, has taken so long that it is time to ask about it.
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

    /// Frames have been taken from the front, or nothing is read now: whatever comes next has all its time.
    pub(super) fn restart_hold(&mut self) {
        self.ask = None;
    }

    /// What is said to a peer whose frame was not worth its memory.
    pub(super) fn too_slow(&self, need: usize) -> CloseReason {
        let bytes = self.bytes.len() + need;
        let text =
            format!("memory is short (limits.memory), and of a frame of {bytes} bytes {need} do not come");
        CloseReason::us(Code::LIMIT, text)
    }

    /// When [`Input::is_slow`] is to be called again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ask
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Gives one piece a read, and nothing when there is none.
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

    /// Reads the next piece of a frame of so many bytes, and finds nothing more, as a turn of the driver does.
    fn read(input: &mut Input, frame: usize, piece: Vec<u8>) {
        let (mut io, mut cx) = (Pieces([piece].into()), Context::from_waker(Waker::noop()));
        while input.poll_fill(&mut io, &mut cx, frame.saturating_sub(input.bytes.len())).is_ready() {}
        input.settle();
    }

    #[test]
    fn the_last_bytes_of_a_large_frame_do_not_move_the_first() {
        const FRAME: usize = 1 << 20;
        for last in [100, LARGE, LARGE + 100] {
            let mut input = Input::default();
            read(&mut input, FRAME, vec![1; 8]);
            read(&mut input, FRAME, vec![1; FRAME - 8 - last]);
            // One that lay in shared room is moved out of it at most once.
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
    fn a_small_frame_leaves_nothing_behind() {
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
