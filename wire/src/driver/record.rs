//! A stream as its two ends see it: bytes in order, half-close, and an unambiguous end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::error::StreamError;
use super::relay::Raw;
use super::stream::Stream;
use crate::code::Code;
use crate::limits;
use crate::stream::{Illegal, Input, Open, RECORD_HEAD, Record, RecordHead, State};

/// Payload of one DATA record, in bytes: with its head it fills one yamux frame.
const DATA: usize = (16 << 10) - RECORD_HEAD;
/// Buffer for the heads of records, in bytes; payloads go straight to the reader.
const HEADS: usize = 512;

/// A yamux stream that carries records. Shutting it down sends END; reading it to its end means that the other side has
/// sent END and that every byte has arrived. Dropped before both, it is reset.
///
/// Bytes that a write accepted are sent without a flush, as long as the stream is used.
///
/// # Cancel safety
/// `read` and `write` are cancel safe, as are those of a socket.
#[derive(Debug)]
pub struct RecordStream {
    inner: Stream,
    state: State,
    input: BytesMut,
    data_left: usize,
    got: u64,
    output: BytesMut,
    sent: u64,
    /// The task that waits for the output to drain.
    writer: Option<Waker>,
}

impl RecordStream {
    /// Reads and writes records on a stream that is new, or on which only `OPEN` or `ACCEPT` was sent.
    pub fn new(inner: Stream) -> Self {
        RecordStream {
            inner,
            state: State::Opening,
            input: BytesMut::new(),
            data_left: 0,
            got: 0,
            output: BytesMut::new(),
            sent: 0,
            writer: None,
        }
    }

    /// Sends OPEN.
    ///
    /// # Errors
    /// The connection failed.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part of the record may be written.
    pub async fn write_open(&mut self, open: &Open) -> Result<(), StreamError> {
        Ok(self.inner.write_all(&Record::Open(open.clone()).encode()).await?)
    }

    /// Sends ACCEPT, after which both sides may send data.
    ///
    /// # Errors
    /// The connection failed.
    ///
    /// # Cancel safety
    /// Not cancel safe: a part of the record may be written.
    pub async fn write_accept(&mut self, meta: &[u8]) -> Result<(), StreamError> {
        self.state = self.state.step(Input::Accept)?;
        let record = Record::Accept(Bytes::copy_from_slice(meta));
        Ok(self.inner.write_all(&record.encode()).await?)
    }

    /// Waits for the peer's OPEN.
    ///
    /// # Errors
    /// The peer sent anything else first, or the connection failed.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read stays buffered.
    pub async fn read_open(&mut self) -> Result<Open, StreamError> {
        match self.read_record().await? {
            Record::Open(open) => Ok(open),
            other => Err(self.unexpected(other)),
        }
    }

    /// Waits for the peer's ACCEPT and gives its meta.
    ///
    /// # Errors
    /// [`StreamError::Reset`] with the reason if the peer refused the stream; else as [`RecordStream::read_open`].
    ///
    /// # Cancel safety
    /// Cancel safe: what was read stays buffered.
    pub async fn read_accept(&mut self) -> Result<Bytes, StreamError> {
        match self.read_record().await? {
            Record::Accept(meta) => {
                self.state = self.state.step(Input::Accept)?;
                Ok(meta)
            }
            other => Err(self.unexpected(other)),
        }
    }

    fn unexpected(&mut self, record: Record) -> StreamError {
        let before = self.state;
        self.state = State::Reset;
        match record {
            Record::Reset(code, text) => StreamError::Reset { code, text },
            Record::End(_) => StreamError::Order(Illegal(before, Input::GotEnd)),
            Record::Data(_) => StreamError::Order(Illegal(before, Input::GotData)),
            Record::Open(_) | Record::Accept(_) => StreamError::Order(Illegal(before, Input::Accept)),
        }
    }

    async fn read_record(&mut self) -> Result<Record, StreamError> {
        loop {
            if let Some(record) = self.take_record()? {
                return Ok(record);
            }
            self.input.reserve(HEADS);
            if self.inner.read_buf(&mut self.input).await? == 0 {
                return Err(StreamError::Cut);
            }
        }
    }

    /// A whole record of the bytes that were read.
    fn take_record(&mut self) -> Result<Option<Record>, StreamError> {
        let Some(head) = self.input.first_chunk::<RECORD_HEAD>() else { return Ok(None) };
        let head = RecordHead::decode(*head)?;
        if self.input.len() < RECORD_HEAD + head.len {
            return Ok(None);
        }
        self.input.advance(RECORD_HEAD);
        Ok(Some(head.record(self.input.split_to(head.len).freeze())?))
    }

    /// Resets both directions and tells the peer why; waits up to [`LINGER`](limits::LINGER) for the record to be sent.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream, perhaps without the reason.
    pub async fn reset(mut self, code: Code, text: &str) {
        // Behind the record that was begun: inside of it the reset would be taken for data. No shutdown: an end that
        // waits for credit is woken only by yamux's reset, which follows the drop.
        self.output.extend_from_slice(&Record::Reset(code, text.to_owned()).encode());
        let drained = std::future::poll_fn(|cx| self.poll_drain(cx));
        let _ = tokio::time::timeout(limits::LINGER, drained).await;
    }

    /// Whether both ends are in this process; see [`Stream::pair`].
    pub fn is_memory(&self) -> bool {
        self.inner.is_memory()
    }

    /// The stream under the records, to relay what follows unchanged.
    pub fn into_raw(self) -> Raw {
        Raw { stream: self.inner, leftover: self.input.freeze() }
    }

    /// Takes records until there is data (`Some(true)`) or the end (`Some(false)`); `None`: more bytes are needed.
    fn next_data(&mut self) -> Result<Option<bool>, StreamError> {
        loop {
            if matches!(self.state, State::ReceivingEnded | State::Closed) {
                return Ok(Some(false));
            }
            let Some(head) = self.input.first_chunk::<RECORD_HEAD>() else { return Ok(None) };
            let head = RecordHead::decode(*head)?;
            if head.is_data() {
                self.state = self.state.step(Input::GotData)?;
                self.input.advance(RECORD_HEAD);
                self.data_left = head.len;
                if head.len > 0 {
                    return Ok(Some(true));
                }
                continue;
            }
            match self.take_record()? {
                None => return Ok(None),
                Some(Record::End(said)) if said == self.got => self.ended()?,
                Some(Record::End(said)) => return Err(StreamError::Count { said, got: self.got }),
                Some(other) => return Err(self.unexpected(other)),
            }
        }
    }

    fn ended(&mut self) -> Result<(), StreamError> {
        self.state = self.state.step(Input::GotEnd)?;
        if self.state == State::Closed && self.output.is_empty() {
            self.inner.finish();
        }
        Ok(())
    }

    fn writable(&mut self, input: Input) -> io::Result<()> {
        if self.state == State::Reset {
            return Err(StreamError::Cut.into());
        }
        self.state = self.state.step(input).map_err(StreamError::from)?;
        Ok(())
    }

    /// Copies payload into the reader's buffer: first what arrived with a head, then what the stream has.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let first = self.data_left.min(self.input.len()).min(buf.remaining());
        buf.put_slice(&self.input[..first]);
        self.input.advance(first);
        self.count(first);
        let rest = self.data_left.min(buf.remaining());
        if rest == 0 || !self.input.is_empty() {
            return Poll::Ready(Ok(first));
        }
        let mut direct = ReadBuf::new(buf.initialize_unfilled_to(rest));
        match Pin::new(&mut self.inner).poll_read(cx, &mut direct) {
            Poll::Pending if first == 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(first)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let read = direct.filled().len();
                buf.advance(read);
                self.count(read);
                Poll::Ready(Ok(first + read))
            }
        }
    }

    fn count(&mut self, bytes: usize) {
        self.data_left -= bytes;
        self.got += bytes as u64;
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.output))?;
            self.output.advance(written);
        }
        if self.state == State::Closed {
            self.inner.finish();
        }
        Poll::Ready(Ok(()))
    }

    /// As [`RecordStream::poll_drain`], for a writer, whose waker is kept while it waits.
    fn poll_drain_writer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.poll_drain(cx);
        self.writer = drained.is_pending().then(|| cx.waker().clone());
        drained
    }

    /// Sends what a write left behind, because the other end may wait for it while this side only reads. The writer
    /// may be another task, and the stream wakes only one: so both are woken.
    fn drain_for_reader(&mut self, cx: &mut Context<'_>) {
        if self.output.is_empty() {
            return;
        }
        let drained = match &self.writer {
            Some(writer) if !writer.will_wake(cx.waker()) => {
                let both = Waker::from(Arc::new(Both(writer.clone(), cx.waker().clone())));
                self.poll_drain(&mut Context::from_waker(&both))
            }
            _ => self.poll_drain(cx),
        };
        // The next write reports an error.
        if let (Poll::Ready(_), Some(writer)) = (drained, self.writer.take_if(|_| self.output.is_empty())) {
            writer.wake();
        }
    }
}

/// Wakes the tasks of both halves of a stream.
struct Both(Waker, Waker);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        self.0.wake_by_ref();
        self.1.wake_by_ref();
    }
}

impl AsyncRead for RecordStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.drain_for_reader(cx);
        loop {
            if this.state == State::Reset {
                return Poll::Ready(Err(StreamError::Cut.into()));
            }
            let read = if this.data_left > 0 {
                let read = ready!(this.poll_deliver(cx, buf))?;
                if read > 0 || buf.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                read
            } else {
                match this.next_data() {
                    Ok(Some(true)) => continue,
                    Ok(Some(false)) => return Poll::Ready(Ok(())),
                    Ok(None) => {}
                    Err(error) => {
                        this.state = State::Reset;
                        return Poll::Ready(Err(error.into()));
                    }
                }
                this.input.reserve(HEADS);
                ready!(poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.input))?
            };
            if read == 0 {
                this.state = State::Reset;
                return Poll::Ready(Err(StreamError::Cut.into()));
            }
        }
    }
}

impl AsyncWrite for RecordStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writable(Input::SendData)?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_drain_writer(cx))?;
        let take = buf.len().min(DATA);
        this.output.extend_from_slice(&RecordHead::data(take));
        this.output.extend_from_slice(&buf[..take]);
        this.sent += take as u64;
        match this.poll_drain_writer(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(take)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain_writer(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !matches!(this.state, State::SendingEnded | State::Closed) {
            ready!(this.poll_drain_writer(cx))?;
            this.writable(Input::SendEnd)?;
            this.output.extend_from_slice(&Record::End(this.sent).encode());
        }
        // Yamux is shut down when both directions have ended: see `Stream`.
        this.poll_drain_writer(cx)
    }
}
