//! One type for a connection on any transport.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::interface::{PeerIdentity, Transport};

/// A connection on any of the transports, dispatched by a `match`: neither a virtual call nor one driver per transport.
#[derive(Debug)]
pub enum AnyTransport {
    /// TCP without encryption.
    Tcp(TcpStream),
    /// TLS over TCP. Boxed: connections without TLS do not carry its size.
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<TcpStream> for AnyTransport {
    fn from(socket: TcpStream) -> Self {
        AnyTransport::Tcp(socket)
    }
}

impl From<TlsStream<TcpStream>> for AnyTransport {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        AnyTransport::Tls(Box::new(stream))
    }
}

/// Evaluates an expression with `$inner` bound to the transport inside.
macro_rules! delegate {
    ($transport:expr, $inner:ident => $work:expr) => {
        match $transport {
            AnyTransport::Tcp($inner) => $work,
            AnyTransport::Tls($inner) => $work,
        }
    };
}

impl Transport for AnyTransport {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        delegate!(self, inner => inner.peer_addr())
    }

    fn peer_identity(&self) -> Option<PeerIdentity<'_>> {
        delegate!(self, inner => inner.peer_identity())
    }

    fn socket(&self) -> Option<&TcpStream> {
        delegate!(self, inner => inner.socket())
    }

    fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            AnyTransport::Tcp(socket) => Transport::poll_peek(socket, cx, buf),
            AnyTransport::Tls(stream) => stream.poll_peek(cx, buf),
        }
    }
}

impl AsyncRead for AnyTransport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for AnyTransport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        delegate!(self, inner => inner.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}
