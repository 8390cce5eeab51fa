//! The interface of a transport.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connected, ordered and reliable byte stream to one peer.
///
/// The bytes are read and written by [`AsyncRead`] and [`AsyncWrite`]; a transport that can should implement vectored
/// writes, because the driver writes one frame as several slices.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The peer's address as this host sees it.
    ///
    /// # Errors
    /// The connection is already broken.
    fn peer_addr(&self) -> io::Result<SocketAddr>;

    /// What the peer proved about itself when the transport was set up; `None` if it proved nothing.
    fn peer_identity(&self) -> Option<PeerIdentity<'_>> {
        None
    }

    /// The TCP socket underneath, for its options; `None` for a transport without one.
    fn socket(&self) -> Option<&TcpStream>;

    /// Copies bytes that have arrived into `buf` without consuming them. Ready with at least one byte, or with 0 if
    /// the peer has closed.
    ///
    /// # Errors
    /// The transport failed.
    fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Waits for the first bytes of the peer and copies as many as have arrived and fit into `buf`, without consuming
    /// them; gives their number, 0 if the peer has closed.
    ///
    /// # Errors
    /// The transport failed.
    ///
    /// # Cancel safety
    /// Dropping the future consumes nothing.
    fn peek(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send {
        poll_fn(move |cx| self.poll_peek(cx, buf))
    }

    /// Waits for the first byte of the peer without consuming it; `None` if the peer has closed.
    ///
    /// # Errors
    /// The transport failed.
    ///
    /// # Cancel safety
    /// Dropping the future consumes nothing.
    fn first_byte(&mut self) -> impl Future<Output = io::Result<Option<u8>>> + Send {
        async move {
            let mut first = [0];
            let count = self.peek(&mut first).await?;
            Ok((count > 0).then_some(first[0]))
        }
    }
}

/// A peer's certificate chain, verified by the transport.
#[derive(Debug, Clone, Copy)]
pub struct PeerIdentity<'a> {
    /// The certificates in DER, the peer's own first. Never empty.
    chain: &'a [CertificateDer<'static>],
}

impl<'a> PeerIdentity<'a> {
    /// An identity for a chain, if there is a certificate in it.
    pub fn new(chain: &'a [CertificateDer<'static>]) -> Option<Self> {
        (!chain.is_empty()).then_some(PeerIdentity { chain })
    }

    /// The certificates in DER (RFC 5280), the peer's own first.
    pub fn chain(&self) -> &'a [CertificateDer<'static>] {
        self.chain
    }
}
