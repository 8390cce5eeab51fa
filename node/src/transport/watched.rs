//! A socket that notes when its peer is heard, gives up on one that takes nothing, and ends when others
//! need the room: for servers that own their sockets.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::idle::Stay;

/// Bytes that a connection without a count of requests has sent when it counts as one that speaks.
const WORDS: usize = 256;

/// The socket of a guest.
pub(crate) struct Watched {
    socket: TcpStream,
    stay: Stay,
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// How long the peer may take nothing.
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    read: usize,
    wrote: bool,
    /// First bytes by which alone a peer counts as one that speaks.
    greeting: Option<&'static [u8]>,
}

impl Watched {
    /// Watches a socket for as long as it lives.
    pub(crate) fn new(socket: TcpStream, stay: Stay, stall: Duration) -> Self {
        let leave = Box::pin(stay.leave());
        Watched { socket, stay, leave, stall, stalled: None, read: 0, wrote: false, greeting: None }
    }

    /// A peer that begins so has said enough for the moment.
    pub(crate) fn greeted_by(self, greeting: &'static [u8]) -> Self {
        Watched { greeting: Some(greeting), ..self }
    }

    /// Ends the connection for the sake of others; a peer that has been told nothing yet is told why.
    fn make_room(&mut self) -> io::Error {
        let most = self.stay.most();
        if !self.wrote {
            let text = format!("{most} connections are open on this port, and this one has said nothing\n");
            let head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length:";
            let _ = self.socket.try_write(format!("{head} {}\r\n\r\n{text}", text.len()).as_bytes());
        }
        io::Error::new(io::ErrorKind::QuotaExceeded, format!("made room for others: {most} are open"))
    }

    fn poll_wrote(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.wrote = true;
            self.stalled = None;
            return wrote;
        }
        let stall = self.stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        match stalled.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let text = format!("the peer has taken nothing for {stall:?}");
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.stay.guest().must_leave() || this.leave.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(this.make_room()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            this.stay.heard();
            let greeted =
                this.read == 0 && this.greeting.is_some_and(|hi| buf.filled()[before..].starts_with(hi));
            this.read = this.read.saturating_add(bytes);
            if greeted || this.read >= WORDS {
                this.stay.guest().speaks();
            }
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.poll_wrote(cx, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.poll_wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl Connected for Watched {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket.connect_info()
    }
}
