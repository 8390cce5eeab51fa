//! TCP without encryption.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::interface::Transport;

impl Transport for TcpStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        TcpStream::peer_addr(self)
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(TcpStream::poll_peek(self, cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }
}

/// Sets the options that every socket of the protocol has: small writes are sent without delay.
///
/// # Errors
/// The socket is already broken.
pub fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)
}

/// Connects to `host:port` within `limit`, trying each address of the name.
///
/// # Errors
/// No address accepted the connection in time.
///
/// # Cancel safety
/// Dropping the future abandons the attempt.
pub async fn dial(addr: &str, limit: Duration) -> io::Result<TcpStream> {
    let socket = timeout(limit, TcpStream::connect(addr)).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("{addr} did not answer within {limit:?}"))
    })??;
    tune(&socket)?;
    Ok(socket)
}
