//! One yamux stream, without records.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures::Stream as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// One yamux stream; see [`RecordStream`](super::RecordStream) for what is said on it.
///
/// Dropped without a shutdown it is reset, so that neither end waits for the other. Yamux's own
/// shutdown belongs at the very end of both directions: a stream that was shut down and is then
/// dropped is never reset, and an end that still waits for credit would wait for ever.
#[derive(Debug)]
pub struct Stream {
    inner: Compat<yamux::Stream>,
    /// Both directions have ended: say so when dropped, instead of a reset.
    finished: bool,
    _open: Counted,
}

impl Stream {
    pub(super) fn new(stream: yamux::Stream, open: &Arc<AtomicUsize>) -> Self {
        Stream { inner: stream.compat(), finished: false, _open: Counted::new(open) }
    }

    /// Both directions are over: dropping the stream shall end it in peace.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Whether it was reset or its connection is gone. Bytes that came before can still be read.
    pub(super) fn is_reset(&self) -> bool {
        self.inner.get_ref().is_closed()
    }

    /// The next bytes as they came, without a copy; `None` is the end.
    pub(super) fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<yamux::Packet>>> {
        Pin::new(self.inner.get_mut()).poll_next(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.finished {
            // It can only wait for room in a queue that is emptied by now; if not, it is a reset.
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut self.inner).poll_shutdown(&mut cx);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf).map_err(gone)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx).map_err(gone)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx).map_err(gone)
    }
}

/// Yamux calls a reset stream a write of nothing.
fn gone(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WriteZero => {
            io::Error::new(io::ErrorKind::ConnectionReset, "the stream was reset or its connection is gone")
        }
        _ => error,
    }
}

/// Counts as long as it lives.
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
