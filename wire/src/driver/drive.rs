//! The loop of a connection, for any protocol.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, error};

use super::handler::{Handler, HandlerCx};
use super::input::{Input, poll_discard};
use super::mailbox::Mailbox;
use super::protocol::Protocol;
use super::timer::{Timer, now};
use crate::close::CloseReason;
use crate::code::Code;
use crate::limits::{LINGER, OUTPUT_HARD_MAX, OUTPUT_SOFT_MAX};

/// Turns of the loop before it yields to other tasks of the thread.
const TURNS: usize = 16;
/// Messages of the mailbox handled in one turn.
const MESSAGES: usize = 512;
/// Slices of one vectored write.
const SLICES: usize = 64;

/// Drives a connection until it ends; then the handler has learned why, exactly once.
///
/// When this side ends a connection, it goes on reading and discarding for [`LINGER`] at most after the handler has
/// been informed: a socket that is closed with unread bytes is reset, which would destroy the output that the peer has
/// not read yet.
///
/// # Cancel safety
/// Dropping the future closes the connection and tells the handler.
pub fn drive<IO, H>(
    io: IO,
    conn: impl Into<H::Protocol>,
    handler: H,
    mailbox: Mailbox<H::Message>,
) -> impl Future<Output = ()> + Send + 'static
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let mut driver = Driver {
        io,
        conn: conn.into(),
        handler: Some(handler),
        mailbox,
        inbox: VecDeque::new(),
        input: Input::default(),
        wake: None,
        closing: None,
        linger: None,
        stalled: None,
        lost: None,
        answers: 0,
        paused: false,
        unparsed: false,
        timer: Timer::default(),
    };
    // No async block: it would hold the arguments beside the driver, once more for each connection.
    poll_fn(move |cx| driver.poll(cx))
}

struct Driver<IO, H: Handler> {
    io: IO,
    conn: H::Protocol,
    /// `None` once it has been informed that the connection is over.
    handler: Option<H>,
    mailbox: Mailbox<H::Message>,
    inbox: VecDeque<H::Message>,
    input: Input,
    wake: Option<Instant>,
    /// Why this side closes the connection; set before its last output is written.
    closing: Option<CloseReason>,
    linger: Option<Instant>,
    /// Since when output has waited and none of it could be written.
    stalled: Option<Instant>,
    /// Why nothing can be written any more, and until when the peer's last output is read.
    lost: Option<(String, Instant)>,
    /// Upper bound of the queued bytes that answer what was read, rather than what came by the mailbox.
    answers: usize,
    /// The handler wants nothing read.
    paused: bool,
    /// Bytes were read that the protocol has not been asked about.
    unparsed: bool,
    timer: Timer,
}

/// The result of one turn of the loop.
enum Turn {
    Progress,
    Idle,
    /// The connection is over. The flag: all output is written, and the peer gets time to read it.
    Over(CloseReason, bool),
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
                Turn::Over(reason, written) => {
                    self.finish(reason);
                    self.linger = Some(now + LINGER);
                    return if written { self.poll_linger(cx, now) } else { Poll::Ready(()) };
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Turn {
        let mut progress = false;
        if self.closing.is_none() {
            match self.poll_open(cx, now) {
                Ok(some) => progress = some,
                Err(reason) => return Turn::Over(reason, false),
            }
        }
        if self.closing.is_some() {
            self.notify_closing();
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
                // The peer's last output may still be read.
                self.lost = Some((error.to_string(), now + LINGER));
                progress = true;
            }
        }
        if progress {
            return Turn::Progress;
        }
        self.input.settle();
        if self.timer.has_fired() {
            // About once per keepalive: release what bursts left behind.
            self.inbox.shrink_to_fit();
            self.mailbox.settle();
            self.conn.settle();
        }
        let due = self.due();
        if self.timer.arm(cx, now, due) { Turn::Progress } else { Turn::Idle }
    }

    /// All that an open connection does but writing. `Err`: the connection is over.
    fn poll_open(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        let mut progress = self.poll_timers(now)?;
        if self.closing.is_none() {
            progress |= self.poll_mailbox(now);
            progress |= self.poll_input(cx, now)?;
            progress |= self.poll_side(cx, now);
        }
        Ok(progress)
    }

    /// Calls the handler with its view of the connection. Always inlined: events are large, and each call that is not
    /// inlined copies one.
    #[inline(always)]
    fn call(&mut self, now: Instant, call: impl FnOnce(&mut H, &mut HandlerCx<'_, H::Protocol>)) {
        let Some(handler) = &mut self.handler else { return };
        let mut cx = HandlerCx {
            conn: &mut self.conn,
            now,
            wake: &mut self.wake,
            closing: &mut self.closing,
            paused: &mut self.paused,
        };
        call(handler, &mut cx);
    }

    /// Ends the connection for a reason of this side, and tells the peer if the protocol can.
    fn fail(&mut self, reason: CloseReason) {
        if self.closing.is_some() {
            return;
        }
        // The handler learns the reason and counts it; a flood of bad connections must not fill the log.
        debug!(code = %reason.code, text = %reason.text, "closing a connection");
        self.conn.farewell(&reason);
        self.closing = Some(reason);
    }

    /// The transport has ended; gives the reason: this side's, else the peer's, else the first error.
    fn broken(&mut self, text: &str) -> CloseReason {
        if let Some(reason) = self.closing.take().or_else(|| self.conn.peer_reason()) {
            return reason;
        }
        let lost = self.lost.take().map(|(text, _)| text);
        CloseReason::transport(lost.as_deref().unwrap_or(text))
    }

    /// Does what is due. `Err`: the connection is over.
    fn poll_timers(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if self.lost.as_ref().is_some_and(|(_, until)| now >= *until) {
            return Err(self.broken("the transport is broken"));
        }
        if now >= self.conn.poll_timeout() {
            let mut events = Vec::new();
            match self.conn.handle_timeout(now, &mut events) {
                Ok(()) => {}
                Err(reason) if H::Protocol::HAS_FAREWELL => self.fail(reason),
                Err(reason) => return Err(reason),
            }
            self.deliver(events, now);
            return Ok(true);
        }
        if let Some((since, limit)) = self.stalled.zip(self.conn.stall_limit())
            && now >= since + limit
        {
            let queued = self.conn.queued();
            let text = format!("the peer has taken nothing for {limit:?}; {queued} bytes wait");
            self.fail(CloseReason::us(Code::LIMIT, text));
            self.linger = Some(now);
            return Ok(true);
        }
        if self.wake.is_some_and(|at| now >= at) {
            self.wake = None;
            self.call(now, |handler, cx| handler.on_timeout(now, cx));
            return Ok(true);
        }
        Ok(false)
    }

    fn poll_mailbox(&mut self, now: Instant) -> bool {
        let mut urgent = false;
        while self.closing.is_none()
            && let Some(message) = self.mailbox.take_urgent()
        {
            self.call(now, |handler, cx| handler.on_message(message, cx));
            urgent = true;
        }
        if self.inbox.is_empty() {
            self.mailbox.refill(&mut self.inbox);
        }
        let mut handled = 0;
        while handled < MESSAGES && self.closing.is_none() && self.conn.queued() < OUTPUT_SOFT_MAX {
            let Some(message) = self.inbox.pop_front() else { break };
            self.call(now, |handler, cx| handler.on_message(message, cx));
            handled += 1;
        }
        urgent || handled > 0
    }

    /// Reads once and handles what has arrived. `Err`: the connection is over.
    ///
    /// The driver bounds answers to what it reads by not reading, and messages of the mailbox by not taking them. If
    /// those stopped the reading too, two peers with much to send could wait for each other for ever.
    fn poll_input(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        self.answers = self.answers.min(self.conn.queued());
        if self.answers >= OUTPUT_HARD_MAX || self.paused || self.conn.blocks_input() {
            self.input.restart_hold();
            return Ok(false);
        }
        if self.unparsed {
            // Left by a pause.
            self.parse(now);
            return Ok(true);
        }
        let need = self.conn.need(&self.input.bytes);
        let missing = need.unwrap_or_default();
        if self.input.is_slow(missing, now)
            && self.handler.as_ref().is_some_and(|handler| !handler.may_hold())
        {
            self.fail(self.input.too_slow(missing));
            return Ok(true);
        }
        match self.input.poll_fill(&mut self.io, cx, need) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(self.broken("the peer closed the connection without a farewell")),
            Poll::Ready(Ok(_)) => {
                self.parse(now);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(self.broken(&error.to_string())),
        }
    }

    /// Handles what has been read.
    fn parse(&mut self, now: Instant) {
        let (queued, len) = (self.conn.queued(), self.input.bytes.len());
        self.unparsed = true;
        while self.closing.is_none() && !self.paused {
            match self.conn.next_event(now, &mut self.input.bytes) {
                Ok(Some(event)) => self.call(now, |handler, cx| handler.on_event(event, cx)),
                Ok(None) => {
                    self.unparsed = false;
                    break;
                }
                Err(reason) => self.fail(reason),
            }
        }
        self.answers += self.conn.queued().saturating_sub(queued);
        if self.input.bytes.len() < len {
            self.input.restart_hold();
        }
    }

    fn poll_side(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut events = Vec::new();
        let polled = self.conn.poll_side(cx, &mut events);
        self.deliver(events, now);
        polled.unwrap_or_else(|reason| {
            self.fail(reason);
            true
        })
    }

    fn deliver(&mut self, events: Vec<<H::Protocol as Protocol>::Event>, now: Instant) {
        for event in events {
            self.call(now, |handler, cx| handler.on_event(event, cx));
        }
    }

    /// Writes what waits; gives whether something was written, and whether all output is flushed.
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

    /// The reason of a closing connection that has written all its output, or has used up its time.
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
        let stall = self.stalled.zip(self.conn.stall_limit()).map(|(since, limit)| since + limit);
        let lost = self.lost.as_ref().map(|(_, until)| *until);
        let others = [self.wake, self.input.due(), lost, stall];
        others.into_iter().flatten().fold(self.conn.poll_timeout(), Instant::min)
    }

    /// After the last output: waits for the peer to close, discarding what it sends, until the time is up.
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
    /// Tells all that wait for this connection that it is over, the handler last.
    fn finish(&mut self, reason: CloseReason) {
        self.notify_closing();
        let Some(handler) = self.handler.take() else { return };
        self.conn.shut();
        self.input = Input::default();
        handler.on_close(reason);
    }

    /// Closes the mailbox and returns what was never read: its senders need not wait for the last output.
    fn notify_closing(&mut self) {
        if let Some(unread) = self.mailbox.end(&mut self.inbox)
            && let Some(handler) = &mut self.handler
        {
            handler.on_closing(unread);
        }
    }
}

impl<IO, H: Handler> Drop for Driver<IO, H> {
    /// The handler learns the end also if its task is dropped or has panicked: no session outlives its connection.
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
