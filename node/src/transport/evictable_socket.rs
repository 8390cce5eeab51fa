//! A socket with idle eviction and a write timeout, for servers that own their sockets (hyper, tonic).

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::idle_eviction::Admission;

/// A peer that has sent so many bytes counts as one that has made a request, where requests are not counted.
const REQUEST_BYTES: usize = 256;

/// A socket whose connection may be evicted.
pub(crate) struct EvictableSocket {
    socket: TcpStream,
    admission: Admission,
    evicted: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// How long the peer may accept no bytes.
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    read: usize,
    wrote: bool,
    /// First bytes that count as a request.
    preface: Option<&'static [u8]>,
}

impl EvictableSocket {
    /// The socket of an admitted connection, whose writes fail once its peer accepts no bytes for `stall`.
    pub(crate) fn new(socket: TcpStream, admission: Admission, stall: Duration) -> Self {
        let evicted = Box::pin(admission.evicted());
        EvictableSocket {
            socket,
            admission,
            evicted,
            stall,
            stalled: None,
            read: 0,
            wrote: false,
            preface: None,
        }
    }

    /// Counts these first bytes of a peer as a request.
    pub(crate) fn with_preface(self, preface: &'static [u8]) -> Self {
        EvictableSocket { preface: Some(preface), ..self }
    }

    /// The error of an evicted connection. A peer that has received nothing yet gets the reason.
    fn evict(&mut self) -> io::Error {
        let most = self.admission.most();
        if !self.wrote {
            let text =
                format!("{most} connections are open on this port, and this one has sent no request\n");
            let head = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length:";
            let _ = self.socket.try_write(format!("{head} {}\r\n\r\n{text}", text.len()).as_bytes());
        }
        io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!("evicted in favour of a new connection: {most} are open"),
        )
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

impl AsyncRead for EvictableSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.admission.activity().is_evicted() || this.evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(this.evict()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            this.admission.note_read();
            let first = &buf.filled()[before..];
            let is_preface = this.read == 0 && this.preface.is_some_and(|preface| first.starts_with(preface));
            this.read = this.read.saturating_add(bytes);
            if is_preface || this.read >= REQUEST_BYTES {
                this.admission.activity().asked();
            }
        }
        read
    }
}

impl AsyncWrite for EvictableSocket {
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

impl Connected for EvictableSocket {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.socket.connect_info()
    }
}
