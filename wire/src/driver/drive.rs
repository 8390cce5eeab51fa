//! The one loop of a connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, error};

use super::input::{Input, poll_discard};
use super::mux::{Mux, Opening};
use super::timer::{Timer, now};
use super::{Cx, Handler, Mailbox};
use crate::conn::Event;
use crate::frame::{Frame, GoAway};
use crate::limits::{LINGER, OUTPUT_HARD_MAX, OUTPUT_SOFT_MAX};
use crate::{CloseReason, Code, Conn};

/// Turns of the loop before other tasks of the thread get theirs.
const TURNS: usize = 16;
/// Mail handled in one turn.
const MAILS: usize = 512;
/// Slices of one vectored write.
const SLICES: usize = 64;

/// Drives a connection until it ends; then the handler has been told why, exactly once.
///
/// A connection that this side ends is read on for [`LINGER`] at most, after the handler has been
/// told: closing it with bytes unread would take the last words from the peer.
///
/// # Cancel safety
/// Dropping the future drops the socket and tells the handler.
pub fn drive<IO, H>(
    io: IO,
    conn: Conn,
    handler: H,
    mailbox: Mailbox<H::Mail>,
) -> impl Future<Output = ()> + Send + 'static
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let mut driver = Driver {
        io,
        conn,
        handler: Some(handler),
        mailbox,
        inbox: VecDeque::new(),
        input: Input::default(),
        mux: None,
        openings: VecDeque::new(),
        wake: None,
        closing: None,
        linger: None,
        stalled: None,
        lost: None,
        answers: 0,
        silent: false,
        farewell: None,
        timer: Timer::default(),
    };
    // No async block: that would hold the arguments beside the driver, once more for each connection.
    poll_fn(move |cx| driver.poll(cx))
}

struct Driver<IO, H: Handler> {
    io: IO,
    conn: Conn,
    /// Gone once it has been told that the connection is over.
    handler: Option<H>,
    mailbox: Mailbox<H::Mail>,
    inbox: VecDeque<H::Mail>,
    input: Input,
    mux: Option<Box<Mux>>,
    openings: VecDeque<Opening>,
    wake: Option<Instant>,
    /// Said to the peer, or on its way to it.
    closing: Option<CloseReason>,
    linger: Option<Instant>,
    /// Since when output waits and nothing of it could be written.
    stalled: Option<Instant>,
    /// Why nothing can be written any more, and until when the peer's last words are read.
    lost: Option<(String, Instant)>,
    /// Queued bytes at most that answer what was read, rather than mail.
    answers: usize,
    /// What the handler was last told about the peer's silence.
    silent: bool,
    farewell: Option<GoAway>,
    timer: Timer,
}

/// What a turn of the loop has come to.
enum Turn {
    Progress,
    Idle,
    /// It is over; the flag: the last words are out and may be waited for.
    Over(CloseReason, bool),
}

/// Calls the handler with its view of the connection, made from the driver's fields.
macro_rules! tell {
    ($driver:ident, $now:expr, $method:ident $(, $argument:expr)*) => {
        if let Some(handler) = &mut $driver.handler {
            handler.$method($($argument,)* &mut Cx {
                now: $now,
                wake: &mut $driver.wake,
                openings: &mut $driver.openings,
                closing: &mut $driver.closing,
                streams: $driver.mux.as_ref().map_or(0, |mux| mux.open()),
                conn: &mut $driver.conn,
            });
        }
    };
}

impl<IO, H> Driver<IO, H>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = now();
        if self.handler.is_none() {
            return self.poll_linger(cx, now);
        }
        self.mailbox.register(cx.waker());
        for _ in 0..TURNS {
            match self.turn(cx, now) {
                Turn::Progress => {}
                Turn::Idle => return Poll::Pending,
                Turn::Over(reason, said) => {
                    self.finish(reason);
                    self.linger = Some(now + LINGER);
                    return if said { self.poll_linger(cx, now) } else { Poll::Ready(()) };
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Turn {
        let mut progress = self.poll_timers(now);
        if self.closing.is_none() {
            progress |= self.poll_mail(now);
            match self.poll_input(cx, now) {
                Ok(read) => progress |= read,
                Err(reason) => return Turn::Over(reason, false),
            }
            progress |= self.poll_mux(cx, now);
            progress |= self.poll_silence(now);
        }
        if self.closing.is_some() {
            self.tell_closing();
        }
        match self.poll_output(cx, now) {
            Ok((written, flushed)) => {
                progress |= written;
                if let Some(reason) = self.poll_closing(now, flushed) {
                    return Turn::Over(reason, flushed);
                }
            }
            Err(error) if self.closing.is_some() => {
                return Turn::Over(self.broken(&error.to_string()), false);
            }
            Err(error) => {
                // What the peer said before it went is still to be read.
                self.lost = Some((error.to_string(), now + LINGER));
                progress = true;
            }
        }
        if progress {
            return Turn::Progress;
        }
        self.input.settle();
        let due = self.due();
        if self.timer.arm(cx, now, due) { Turn::Progress } else { Turn::Idle }
    }

    /// Ends the connection with a reason of ours, said to the peer.
    fn fail(&mut self, reason: CloseReason) {
        if self.closing.is_some() {
            return;
        }
        // Whoever owns the connection is told why, and counts it: a flood must not fill the log.
        debug!(code = %reason.code, text = %reason.text, open = self.conn.is_open(), "closing a connection");
        self.conn.send(Frame::GoAway(GoAway::new(reason.code, reason.text.clone())));
        self.closing = Some(reason);
    }

    /// The transport has ended: by the peer's word, by ours, or by itself.
    fn broken(&mut self, text: &str) -> CloseReason {
        match (self.closing.take(), self.farewell.take(), self.lost.take()) {
            (Some(reason), ..) => reason,
            (None, Some(goaway), _) => CloseReason::peer(goaway.code, goaway.text),
            (None, None, Some((text, _))) => CloseReason::transport(text),
            (None, None, None) => CloseReason::transport(text),
        }
    }

    fn poll_timers(&mut self, now: Instant) -> bool {
        if self.closing.is_some() {
            return false;
        }
        if self.lost.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.closing = Some(self.broken("the transport is broken"));
            return true;
        }
        if let Err(reason) = self.conn.handle_timeout(now) {
            self.fail(reason);
            return true;
        }
        let stall = self.conn.limits().stall;
        if self.stalled.is_some_and(|since| now >= since + stall) {
            let text = format!("the peer has taken nothing for {stall:?}; {} bytes wait", self.conn.queued());
            self.fail(CloseReason::us(Code::LIMIT, text));
            self.linger = Some(now);
            return true;
        }
        if self.wake.is_some_and(|at| now >= at) {
            self.wake = None;
            tell!(self, now, on_timeout, now);
            return true;
        }
        false
    }

    fn poll_mail(&mut self, now: Instant) -> bool {
        let mut urgent = false;
        while self.closing.is_none()
            && let Some(mail) = self.mailbox.take_urgent()
        {
            tell!(self, now, on_mail, mail);
            urgent = true;
        }
        if self.inbox.is_empty() {
            self.mailbox.refill(&mut self.inbox);
        }
        let mut handled = 0;
        while handled < MAILS && self.closing.is_none() && self.conn.queued() < OUTPUT_SOFT_MAX {
            let Some(mail) = self.inbox.pop_front() else { break };
            tell!(self, now, on_mail, mail);
            handled += 1;
        }
        urgent || handled > 0
    }

    /// Reads once and handles what can be. `Err`: the connection is over.
    ///
    /// Answers to what is read are bounded by not reading. Mail is bounded by not taking it: were
    /// it to stop the reading too, two ends with much to say could wait for each other for ever.
    fn poll_input(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        self.answers = self.answers.min(self.conn.queued());
        if self.answers >= OUTPUT_HARD_MAX || self.mux.as_ref().is_some_and(|mux| mux.is_full()) {
            self.input.begin_anew();
            return Ok(false);
        }
        let need = self.conn.need(&self.input.bytes);
        if self.input.dawdles(need, now) && self.handler.as_ref().is_some_and(|handler| !handler.may_hold()) {
            self.fail(self.input.dawdled(need));
            return Ok(true);
        }
        match self.input.poll_fill(&mut self.io, cx, need) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => return Err(self.broken("the peer closed without a good-bye")),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => return Err(self.broken(&error.to_string())),
        }
        let (queued, came) = (self.conn.queued(), self.input.bytes.len());
        while self.closing.is_none() {
            match self.conn.next(now, &mut self.input.bytes) {
                Ok(Some(event)) => self.handle(event, now),
                Ok(None) => break,
                Err(reason) => self.fail(reason),
            }
        }
        self.answers += self.conn.queued() - queued;
        if self.input.bytes.len() < came {
            self.input.begin_anew();
        }
        Ok(true)
    }

    fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Frame(frame) => tell!(self, now, on_frame, frame),
            Event::Yamux(bytes) => self.mux().feed(bytes),
            Event::Hello(mut hello) => {
                // Kept for long; a slice would keep the whole read's memory with it.
                hello.meta = Bytes::copy_from_slice(&hello.meta);
                hello.ticket = Bytes::copy_from_slice(&hello.ticket);
                tell!(self, now, on_hello, hello);
            }
            Event::Welcome(welcome) => tell!(self, now, on_welcome, welcome),
            Event::GoAway(goaway) => {
                self.farewell = Some(goaway.clone());
                tell!(self, now, on_goaway, goaway);
            }
        }
    }

    fn mux(&mut self) -> &mut Mux {
        let (is_client, max) = (self.conn.is_client(), self.conn.limits().streams);
        self.mux.get_or_insert_with(|| Box::new(Mux::new(is_client, max)))
    }

    fn poll_mux(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if self.mux.is_none() && self.openings.is_empty() {
            return false;
        }
        self.mux();
        let Some(mux) = &mut self.mux else { return false };
        let polled = mux.poll(cx, &mut self.openings);
        let mut progress = false;
        if self.conn.queued() < OUTPUT_SOFT_MAX {
            let bytes = mux.drain();
            progress = !bytes.is_empty();
            if progress && let Err(reason) = self.conn.send_yamux(bytes) {
                self.fail(reason);
            }
        }
        match polled {
            Ok(streams) => {
                for stream in streams {
                    progress = true;
                    tell!(self, now, on_stream, stream);
                }
            }
            Err(reason) => self.fail(reason),
        }
        progress
    }

    fn poll_silence(&mut self, now: Instant) -> bool {
        let silent = self.conn.missed_keepalive();
        let changed = silent != self.silent;
        if changed {
            self.silent = silent;
            if silent {
                // It has been quiet for a while: give back what bursts have left behind.
                self.inbox.shrink_to_fit();
                self.mailbox.settle();
                if let Some(mux) = &self.mux {
                    mux.settle();
                }
            }
            tell!(self, now, on_silence, silent);
        }
        changed
    }

    /// Writes what waits; whether something was written, and whether all is out.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<(bool, bool)> {
        if self.lost.is_some() {
            return Ok((false, true));
        }
        let mut progress = false;
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.conn.chunks(&mut slices);
            if count == 0 {
                self.stalled = None;
                let flushed = Pin::new(&mut self.io).poll_flush(cx)?.is_ready();
                return Ok((progress, flushed));
            }
            match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.conn.advance(written);
                    self.stalled = None;
                    progress = true;
                }
                Poll::Pending => {
                    self.stalled.get_or_insert(now);
                    return Ok((progress, false));
                }
            }
        }
    }

    /// Whether a closing connection has said its last words, or has had its time.
    fn poll_closing(&mut self, now: Instant, flushed: bool) -> Option<CloseReason> {
        self.closing.as_ref()?;
        let until = *self.linger.get_or_insert(now + LINGER);
        if flushed || now >= until { self.closing.take() } else { None }
    }

    /// When the next thing is due.
    fn due(&self) -> Instant {
        if let Some(until) = self.linger {
            return until;
        }
        let mut due = self.conn.poll_timeout();
        due = self.wake.map_or(due, |wake| wake.min(due));
        due = self.input.due().map_or(due, |ask| ask.min(due));
        due = self.lost.as_ref().map_or(due, |(_, until)| due.min(*until));
        self.stalled.map_or(due, |since| due.min(since + self.conn.limits().stall))
    }

    /// After the last words: waits for the peer to close, reading on, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let until = *self.linger.get_or_insert(now + LINGER);
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        if matches!(shut, Poll::Ready(Err(_))) || poll_discard(&mut self.io, cx).is_ready() {
            return Poll::Ready(());
        }
        if self.timer.arm(cx, now, until) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<IO, H: Handler> Driver<IO, H> {
    /// Tells everyone who waits for this connection that it is over, the handler last.
    fn finish(&mut self, reason: CloseReason) {
        self.tell_closing();
        let Some(handler) = self.handler.take() else { return };
        self.mux = None;
        self.input = Input::default();
        for opening in std::mem::take(&mut self.openings) {
            opening(Err(Code::GONE));
        }
        handler.on_close(reason);
    }

    /// Nothing is read any more: whoever has sent mail need not wait until the last words are out.
    fn tell_closing(&mut self) {
        if let Some(unread) = self.mailbox.end(&mut self.inbox)
            && let Some(handler) = &mut self.handler
        {
            handler.on_closing(unread);
        }
    }
}

impl<IO, H: Handler> Drop for Driver<IO, H> {
    /// A task that is dropped, or whose handler has panicked, still tells: there are no ghosts.
    fn drop(&mut self) {
        if self.handler.is_none() {
            return;
        }
        let text = "the connection's task was ended";
        let finish = AssertUnwindSafe(|| self.finish(CloseReason::us(Code::INTERNAL, text)));
        if catch_unwind(finish).is_err() {
            error!("a handler panicked when its connection was closed");
        }
    }
}
