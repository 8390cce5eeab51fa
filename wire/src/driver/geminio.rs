//! The one loop of a connection in the geminio dialect.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tracing::error;

use super::Mailbox;
use super::input::{Input, poll_discard};
use super::timer::{Timer, now};
use crate::geminio::{Conn, Event};
use crate::limits::{LINGER, OUTPUT_HARD_MAX, OUTPUT_SOFT_MAX};
use crate::{CloseReason, Code};

/// Turns of the loop before other tasks of the thread get theirs.
const TURNS: usize = 16;
/// Mail handled in one turn.
const MAILS: usize = 512;
/// Slices of one vectored write.
const SLICES: usize = 64;

/// What the owner of a geminio connection does. All methods are called by the one task of
/// [`drive_geminio`] and must not block.
pub trait GeminioHandler: Send + 'static {
    /// What other tasks may tell this one.
    type Mail: Send + 'static;

    /// Something has arrived; [`Event::Over`] is not told.
    fn on_event(&mut self, event: Event, cx: &mut GeminioCx<'_>);
    /// Something from the mailbox.
    fn on_mail(&mut self, mail: Self::Mail, cx: &mut GeminioCx<'_>);
    /// A time given to [`GeminioCx::wake_at`] has come.
    fn on_timeout(&mut self, now: Instant, cx: &mut GeminioCx<'_>);
    /// As [`Handler::may_hold`](super::Handler::may_hold).
    fn may_hold(&self) -> bool {
        true
    }
    /// The connection begins to close: nothing more is read from the peer or from the mailbox, which is closed;
    /// here is the mail that was never read. Called exactly once, before the last words are out, which may take a
    /// while where the peer takes nothing.
    fn on_closing(&mut self, unread: Vec<Self::Mail>);
    /// The connection is over; called exactly once, after [`GeminioHandler::on_closing`].
    fn on_close(self, reason: CloseReason);
}

/// The connection as its handler sees it, for the length of one call.
pub struct GeminioCx<'a> {
    /// The connection's protocol.
    pub conn: &'a mut Conn,
    now: Instant,
    wake: &'a mut Option<Instant>,
    closing: &'a mut Option<CloseReason>,
    paused: &'a mut bool,
}

impl GeminioCx<'_> {
    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Writes what is queued within [`LINGER`] and closes: the dialect has no last words.
    pub fn close(&mut self, reason: CloseReason) {
        self.closing.get_or_insert(reason);
    }

    /// Asks for [`GeminioHandler::on_timeout`] at this time or a little later; the earliest of all
    /// wishes counts and is forgotten when it has come.
    pub fn wake_at(&mut self, at: Instant) {
        if self.wake.is_none_or(|wake| at < wake) {
            *self.wake = Some(at);
        }
    }

    /// Whether the connection is to be read. Timers run on: a peer that is not read for two of its
    /// heartbeats is taken for dead.
    pub fn pause(&mut self, paused: bool) {
        *self.paused = paused;
    }
}

/// Drives a connection until it ends; then the handler has been told why, exactly once.
///
/// A peer that takes nothing is not cut off while it sends heartbeats: the clients of this dialect
/// stop reading whenever one of their streams is not read. Mail waits meanwhile, and senders learn
/// that the peer is busy.
///
/// # Cancel safety
/// Dropping the future drops the socket and tells the handler.
pub fn drive_geminio<IO, H>(
    io: IO,
    conn: Conn,
    handler: H,
    mailbox: Mailbox<H::Mail>,
) -> impl Future<Output = ()> + Send + 'static
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: GeminioHandler,
{
    let mut driver = Driver {
        io,
        conn,
        handler: Some(handler),
        mailbox,
        inbox: VecDeque::new(),
        input: Input::default(),
        wake: None,
        closing: None,
        linger: None,
        lost: None,
        answers: 0,
        paused: false,
        timer: Timer::default(),
    };
    // No async block: that would hold the arguments beside the driver, once more for each connection.
    poll_fn(move |cx| driver.poll(cx))
}

struct Driver<IO, H: GeminioHandler> {
    io: IO,
    conn: Conn,
    /// Gone once it has been told that the connection is over.
    handler: Option<H>,
    mailbox: Mailbox<H::Mail>,
    inbox: VecDeque<H::Mail>,
    input: Input,
    wake: Option<Instant>,
    closing: Option<CloseReason>,
    linger: Option<Instant>,
    /// Why nothing can be written any more, and until when the peer's last words are read.
    lost: Option<(String, Instant)>,
    /// Queued bytes at most that answer what was read, rather than mail.
    answers: usize,
    paused: bool,
    timer: Timer,
}

enum Turn {
    Progress,
    Idle,
    /// It is over; the flag: all is written, and the peer may read it in peace.
    Over(CloseReason, bool),
}

/// Calls the handler with its view of the connection, made from the driver's fields.
macro_rules! tell {
    ($driver:ident, $now:expr, $method:ident $(, $argument:expr)*) => {
        if let Some(handler) = &mut $driver.handler {
            handler.$method($($argument,)* &mut GeminioCx {
                conn: &mut $driver.conn,
                now: $now,
                wake: &mut $driver.wake,
                closing: &mut $driver.closing,
                paused: &mut $driver.paused,
            });
        }
    };
}

impl<IO, H> Driver<IO, H>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
    H: GeminioHandler,
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
            match self.poll_timers(now) {
                Ok(some) => progress |= some,
                // Nothing that is said to a silent peer would be heard.
                Err(reason) => return Turn::Over(reason, false),
            }
            progress |= self.poll_mail(now);
            match self.poll_input(cx, now) {
                Ok(read) => progress |= read,
                Err(reason) => return Turn::Over(reason, false),
            }
        }
        if self.closing.is_some() {
            self.tell_closing();
        }
        match self.poll_output(cx) {
            Ok((written, flushed)) => {
                progress |= written;
                if let Some(reason) = self.poll_closing(now, flushed) {
                    return Turn::Over(reason, flushed);
                }
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
        if !self.timer.arm(cx, now, due) {
            return Turn::Idle;
        }
        // That happens now and then also where nothing was due in the end: bursts give back what they left.
        self.inbox.shrink_to_fit();
        self.mailbox.settle();
        Turn::Progress
    }

    fn poll_timers(&mut self, now: Instant) -> Result<bool, CloseReason> {
        if let Some((text, until)) = &self.lost
            && now >= *until
        {
            return Err(CloseReason::transport(text.clone()));
        }
        if now >= self.conn.poll_timeout() {
            self.conn.handle_timeout(now)?;
            self.heed(now);
            return Ok(true);
        }
        if self.wake.is_some_and(|at| now >= at) {
            self.wake = None;
            tell!(self, now, on_timeout, now);
            return Ok(true);
        }
        Ok(false)
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
    fn poll_input(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, CloseReason> {
        self.answers = self.answers.min(self.conn.queued());
        if self.answers >= OUTPUT_HARD_MAX {
            self.input.begin_anew();
            return Ok(false);
        }
        if self.heed(now) {
            return Ok(true);
        }
        if self.paused {
            self.input.begin_anew();
            return Ok(false);
        }
        let need = self.conn.need(&self.input.bytes);
        if self.input.dawdles(need, now) && self.handler.as_ref().is_some_and(|handler| !handler.may_hold()) {
            self.closing = Some(self.input.dawdled(need));
            return Ok(true);
        }
        match self.input.poll_fill(&mut self.io, cx, need) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(self.broken("the peer closed without a farewell")),
            Poll::Ready(Ok(_)) => {
                self.heed(now);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(self.broken(&error.to_string())),
        }
    }

    fn broken(&mut self, text: &str) -> CloseReason {
        let lost = self.lost.take().map(|(text, _)| text);
        CloseReason::transport(lost.as_deref().unwrap_or(text))
    }

    /// Handles what has been read; whether there was anything.
    fn heed(&mut self, now: Instant) -> bool {
        let (queued, came) = (self.conn.queued(), self.input.bytes.len());
        let mut some = false;
        while self.closing.is_none() && !self.paused {
            match self.conn.next(now, &mut self.input.bytes) {
                Ok(Some(Event::Over)) => {
                    self.closing = Some(CloseReason::peer(Code::OK, "it said farewell"));
                }
                Ok(Some(event)) => tell!(self, now, on_event, event),
                Ok(None) => break,
                Err(reason) => {
                    self.closing = Some(reason);
                }
            }
            some = true;
        }
        self.answers += self.conn.queued().saturating_sub(queued);
        if self.input.bytes.len() < came {
            self.input.begin_anew();
        }
        some
    }

    /// Writes what waits; whether something was written, and whether all is out.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> io::Result<(bool, bool)> {
        if self.lost.is_some() {
            return Ok((false, true));
        }
        let mut progress = false;
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.conn.chunks(&mut slices);
            if count == 0 {
                let flushed = Pin::new(&mut self.io).poll_flush(cx)?.is_ready();
                return Ok((progress, flushed));
            }
            match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => {
                    self.conn.advance(written);
                    progress = true;
                }
                Poll::Pending => return Ok((progress, false)),
            }
        }
    }

    /// Whether a closing connection has written all, or has had its time.
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
        let due = self.conn.poll_timeout();
        let due = self.wake.map_or(due, |wake| wake.min(due));
        let due = self.input.due().map_or(due, |ask| ask.min(due));
        self.lost.as_ref().map_or(due, |(_, until)| due.min(*until))
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

impl<IO, H: GeminioHandler> Driver<IO, H> {
    fn finish(&mut self, reason: CloseReason) {
        self.tell_closing();
        let Some(handler) = self.handler.take() else { return };
        self.input = Input::default();
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

impl<IO, H: GeminioHandler> Drop for Driver<IO, H> {
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
