//! The yamux session of a connection, made with its first stream.
//!
//! Bytes of yamux frames go in by a [`Pipe`]; what yamux writes comes out of it and is queued behind the limes frames.
//! The session is polled when it has new input or has woken the task, not in each turn: calls on the same connection
//! do not pay for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};
use futures::task::AtomicWaker;

use super::pipe::Pipe;
use super::stream::Stream;
use crate::close::CloseReason;
use crate::code::Code;
use crate::limits;

/// Credit beyond the initial window that the streams of a connection may share.
const EXTRA_WINDOW: usize = 16 << 20;
/// Bytes that may wait for yamux, in addition to one window for each open stream, before the driver stops reading the
/// socket. A peer that keeps to its credit does not come near.
const UNREAD_MAX: usize = 4 << 20;

/// Receives the stream that was asked for, or why it cannot be opened.
pub(super) type Opening = Box<dyn FnOnce(Result<Stream, Code>) + Send>;

/// Remembers that the session has asked to be polled.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// A yamux session over memory.
pub(super) struct Mux {
    session: yamux::Connection<Pipe>,
    pipe: Pipe,
    bell: Arc<Bell>,
    waker: Waker,
    /// Bytes have arrived, or output was drained.
    due: bool,
    open: Arc<AtomicUsize>,
    max: usize,
}

impl Mux {
    pub(super) fn new(is_client: bool, max: usize) -> Self {
        // Streams beyond `max` are refused one by one, below; yamux would end the session.
        let twice = max.saturating_mul(2).min(65_536);
        let mut config = yamux::Config::default();
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(twice);
        config.set_max_connection_receive_window(Some(twice * limits::STREAM_WINDOW + EXTRA_WINDOW));
        let mode = if is_client { yamux::Mode::Client } else { yamux::Mode::Server };
        let pipe = Pipe::default();
        let session = yamux::Connection::new(pipe.clone(), config, mode);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        Mux { session, pipe, bell, waker, due: true, open: Arc::default(), max }
    }

    /// Bytes from the socket.
    pub(super) fn feed(&mut self, bytes: Bytes) {
        self.due = true;
        self.pipe.feed(bytes);
    }

    /// Streams that are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether the socket must not be read: the peer sends more than it has credit for.
    pub(super) fn is_full(&self) -> bool {
        let unread = self.pipe.unread();
        unread > UNREAD_MAX && unread > UNREAD_MAX + self.open() * limits::STREAM_WINDOW
    }

    /// Takes the output of yamux.
    pub(super) fn drain(&mut self) -> BytesMut {
        let bytes = self.pipe.drain();
        self.due |= !bytes.is_empty();
        bytes
    }

    /// Releases memory while the session is idle.
    pub(super) fn settle(&self) {
        self.pipe.settle();
    }

    /// Drives the session if there is a reason to: gives the streams that the peer opened to `inbound`, and opens
    /// those that are asked for.
    ///
    /// # Errors
    /// The peer broke yamux's rules or ended the session.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        openings: &mut VecDeque<Opening>,
        mut inbound: impl FnMut(Stream),
    ) -> Result<(), CloseReason> {
        self.bell.task.register(cx.waker());
        if !self.bell.rung.swap(false, Ordering::Acquire) && !self.due && openings.is_empty() {
            return Ok(());
        }
        self.due = false;
        // First: it also removes the streams that were dropped, so that others fit.
        self.poll_inbound(&mut inbound)?;
        if self.poll_openings(openings)? {
            // The session serves a new stream only when it is polled again.
            self.poll_inbound(&mut inbound)?;
        }
        Ok(())
    }

    fn poll_inbound(&mut self, inbound: &mut impl FnMut(Stream)) -> Result<(), CloseReason> {
        let mut cx = Context::from_waker(&self.waker);
        loop {
            match self.session.poll_next_inbound(&mut cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(stream))) => {
                    if self.open() < self.max {
                        inbound(Stream::new(stream, &self.open));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Err(broken(&error)),
                Poll::Ready(None) => return Err(CloseReason::protocol("yamux: the session was ended")),
            }
        }
    }

    /// Opens the streams that are asked for, as far as the limits allow; gives whether it opened any.
    fn poll_openings(&mut self, openings: &mut VecDeque<Opening>) -> Result<bool, CloseReason> {
        let mut opened = false;
        let fit = self.max.saturating_sub(self.open()).min(openings.len());
        for opening in openings.drain(fit..) {
            opening(Err(Code::BUSY));
        }
        // While its output is full, yamux does not remove dropped streams: opening more could cross its own limit.
        while !openings.is_empty() && !self.pipe.is_full() {
            let mut cx = Context::from_waker(&self.waker);
            match self.session.poll_new_outbound(&mut cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(stream)) => {
                    if let Some(opening) = openings.pop_front() {
                        opening(Ok(Stream::new(stream, &self.open)));
                    }
                    opened = true;
                }
                Poll::Ready(Err(error)) => return Err(broken(&error)),
            }
        }
        Ok(opened)
    }
}

fn broken(error: &yamux::ConnectionError) -> CloseReason {
    CloseReason::protocol(format!("yamux: {error}"))
}
