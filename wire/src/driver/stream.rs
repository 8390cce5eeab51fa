//! A stream without records: of yamux, or in memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use futures::Stream as _;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};
use tokio_util::io::poll_read_buf;

/// Bytes that one direction of a stream in memory may hold, and bytes of one piece of it.
const MEMORY: usize = 64 << 10;
const PIECE: usize = 16 << 10;

/// One yamux stream, or one end of a pair in memory; [`RecordStream`](super::RecordStream) carries records on it.
///
/// Dropped without a shutdown it is reset, so that neither end waits for the other. Yamux's own shutdown must follow
/// the end of both directions: a stream that was shut down and is then dropped is never reset, and an end that waits
/// for credit would wait for ever.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    /// Both directions have ended: dropping it sends a shutdown instead of a reset.
    finished: bool,
    _open: Counted,
}

#[derive(Debug)]
enum Inner {
    Yamux(Compat<yamux::Stream>),
    Memory(DuplexStream),
}

/// Bytes as they arrived.
pub(super) enum Packet {
    Yamux(yamux::Packet),
    Memory(Bytes),
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        match self {
            Packet::Yamux(packet) => packet.as_ref(),
            Packet::Memory(bytes) => bytes,
        }
    }
}

impl Stream {
    pub(super) fn new(stream: yamux::Stream, open: &Arc<AtomicUsize>) -> Self {
        Stream { inner: Inner::Yamux(stream.compat()), finished: false, _open: Counted::new(open) }
    }

    /// Both ends of a stream within the process: for a peer of another protocol.
    pub fn pair() -> (Stream, Stream) {
        let (near, far) = duplex(MEMORY);
        let end = |inner| Stream {
            inner: Inner::Memory(inner),
            finished: false,
            _open: Counted::new(&Arc::default()),
        };
        (end(near), end(far))
    }

    /// Whether it is one end of a [`Stream::pair`].
    pub fn is_memory(&self) -> bool {
        matches!(self.inner, Inner::Memory(_))
    }

    /// Both directions have ended: dropping the stream shuts it down instead of resetting it.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether it was reset or its connection is gone. Bytes that arrived before can still be read.
    pub(super) fn is_reset(&self) -> bool {
        match &self.inner {
            Inner::Yamux(stream) => stream.get_ref().is_closed(),
            // A stream in memory ends without an END record instead.
            Inner::Memory(_) => false,
        }
    }

    /// The next bytes as they arrived, without a copy; `None` is the end.
    pub(super) fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Packet>>> {
        match &mut self.inner {
            Inner::Yamux(stream) => Pin::new(stream.get_mut())
                .poll_next(cx)
                .map(|next| next.map(|packet| packet.map(Packet::Yamux))),
            Inner::Memory(stream) => {
                let mut piece = BytesMut::with_capacity(PIECE);
                poll_read_buf(Pin::new(stream), cx, &mut piece).map(|read| match read {
                    Ok(0) => None,
                    Ok(_) => Some(Ok(Packet::Memory(piece.freeze()))),
                    Err(error) => Some(Err(error)),
                })
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.finished {
            // It is pending only if the session's queue is full; then the drop resets the stream.
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut *self).poll_shutdown(&mut cx);
        }
    }
}

/// Evaluates an expression with `$inner` bound to the stream inside.
macro_rules! either {
    ($stream:expr, $inner:ident => $what:expr) => {
        match &mut $stream.get_mut().inner {
            Inner::Yamux($inner) => $what,
            Inner::Memory($inner) => $what,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, inner => Pin::new(inner).poll_write(cx, buf)).map_err(gone)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_flush(cx)).map_err(gone)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, inner => Pin::new(inner).poll_shutdown(cx)).map_err(gone)
    }
}

/// Yamux reports a reset stream as a write of zero bytes.
fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WriteZero => {
            io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset or its connection is gone")
        }
        _ => error,
    }
}

/// Counts one open stream until it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
