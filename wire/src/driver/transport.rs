//! What a connection runs on: a socket in the clear, or under TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A socket, with or without TLS.
#[derive(Debug)]
pub enum Transport {
    /// In the clear.
    Plain(TcpStream),
    /// Under TLS; boxed, so that the many in the clear do not carry its room.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// The socket under it, for its options.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }

    /// What the peer has sent first, as far as it is here and `buf` has room; it stays to be read. At
    /// least one byte is waited for; 0: the peer has closed.
    ///
    /// # Errors
    /// The socket or TLS failed.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.peek(buf).await,
            Transport::Tls(stream) => {
                let here = stream.fill_buf().await?;
                let len = here.len().min(buf.len());
                buf[..len].copy_from_slice(&here[..len]);
                Ok(len)
            }
        }
    }

    /// The first byte that the peer sends; it stays to be read. `None`: the peer has closed.
    ///
    /// # Errors
    /// The socket or TLS failed.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub async fn first(&mut self) -> io::Result<Option<u8>> {
        match self {
            Transport::Plain(socket) => {
                let mut first = [0];
                Ok((socket.peek(&mut first).await? > 0).then_some(first[0]))
            }
            Transport::Tls(stream) => Ok(stream.fill_buf().await?.first().copied()),
        }
    }
}

/// Does the same to whichever it is.
macro_rules! either {
    ($transport:expr, $io:ident => $work:expr) => {
        match $transport.get_mut() {
            Transport::Plain(socket) => {
                let $io = Pin::new(socket);
                $work
            }
            Transport::Tls(stream) => {
                let $io = Pin::new(&mut **stream);
                $work
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => io.poll_shutdown(cx))
    }
}
