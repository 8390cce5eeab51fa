//! The socket of yamux: a pair of buffers in memory.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures::{AsyncRead, AsyncWrite};
use parking_lot::{Mutex, MutexGuard};

/// Output of yamux that may wait, in bytes; past it streams wait.
const OUT_MAX: usize = 256 << 10;

#[derive(Debug, Default)]
struct Buffers {
    inbound: VecDeque<Bytes>,
    inbound_bytes: usize,
    outbound: BytesMut,
}

/// Both ends of the pair. No method registers a waker, because the driver polls the session in the same turn in which
/// it adds or takes bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipe(Arc<Mutex<Buffers>>);

impl Pipe {
    // Only the connection's task locks it; the lock makes the type `Send`.
    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.0.lock()
    }

    /// Bytes from the socket.
    pub(super) fn feed(&self, bytes: Bytes) {
        let mut buffers = self.buffers();
        buffers.inbound_bytes += bytes.len();
        buffers.inbound.push_back(bytes);
    }

    /// Bytes from the socket that yamux has not taken.
    pub(super) fn unread(&self) -> usize {
        self.buffers().inbound_bytes
    }

    /// Whether yamux may write no more for now.
    pub(super) fn is_full(&self) -> bool {
        self.buffers().outbound.len() >= OUT_MAX
    }

    /// Takes the output of yamux.
    pub(super) fn drain(&self) -> BytesMut {
        self.buffers().outbound.split()
    }

    /// Releases the memory of empty buffers.
    pub(super) fn settle(&self) {
        let mut buffers = self.buffers();
        if buffers.outbound.is_empty() && buffers.inbound.is_empty() {
            *buffers = Buffers::default();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffers = self.buffers();
        let Some(front) = buffers.inbound.front_mut() else { return Poll::Pending };
        let read = front.len().min(buf.len());
        front.copy_to_slice(&mut buf[..read]);
        if front.is_empty() {
            buffers.inbound.pop_front();
        }
        buffers.inbound_bytes -= read;
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut buffers = self.buffers();
        if buffers.outbound.len() >= OUT_MAX {
            return Poll::Pending;
        }
        buffers.outbound.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
