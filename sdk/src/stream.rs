//! Streams between an edge and a service.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use limes_wire::Code;
use limes_wire::driver::RecordStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A two-way byte stream through the cluster, in order and with back-pressure from end to end.
///
/// Shutting the writing half down ends this direction; the peer reads to the end and may still write. Reading
/// reports the end only after every byte of a peer that has shut its half down: a connection that breaks anywhere on
/// the path is an error of kind `ConnectionReset`.
#[derive(Debug)]
pub struct Stream(pub(crate) RecordStream);

impl Stream {
    /// Resets both directions; the peer gets the text, one line.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream without the text.
    pub async fn reset(self, text: &str) {
        self.0.reset(Code::APPLICATION, text).await;
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// A stream that the peer has opened.
#[derive(Debug)]
pub struct Incoming {
    /// The opener: an edge's id at a service, a service's id at an edge.
    pub peer: u64,
    /// The name that the opener gave: at a service, the service's own.
    pub name: String,
    /// The opener's data about the stream.
    pub meta: Bytes,
    /// The stream itself.
    pub stream: Stream,
}
