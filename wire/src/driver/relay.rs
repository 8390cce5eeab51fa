//! Relays a stream from one connection to another, with its records.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::{io, pin::Pin};

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::error::StreamError;
use super::stream::Packet;
use super::stream::Stream;
use super::track::Track;
use crate::limits::LINGER;
use crate::stream::Record;

/// Pieces relayed before the task yields.
const TURNS: usize = 64;

/// A stream without records, and the bytes that were read from it before.
#[derive(Debug)]
pub struct Raw {
    /// The stream.
    pub stream: Stream,
    /// Bytes that precede those of the stream.
    pub leftover: Bytes,
}

/// Relays bytes both ways until both directions have ended or one side fails; gives the number of bytes relayed. Of
/// each direction it holds one piece, unchanged; yamux's credit holds the rest back.
///
/// When one side fails, the other gets a RESET where a record may begin, and yamux's reset in any case, so that both
/// its reader and its writer learn.
///
/// # Cancel safety
/// Dropping the future resets both streams.
pub async fn relay(near: Raw, far: Raw) -> u64 {
    let (mut near, mut there) = split(near);
    let (mut far, mut back) = split(far);
    let ended = poll_fn(|cx| {
        let out = there.poll(cx, &mut near, &mut far);
        let home = back.poll(cx, &mut far, &mut near);
        match (out, home) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    })
    .await;
    match ended {
        Ok(()) => {
            let _ = timeout(LINGER, async { tokio::join!(near.shutdown(), far.shutdown()) }).await;
        }
        Err(error) => {
            let reset = Record::Reset(error.code(), error.to_string()).encode();
            tokio::join!(there.abort(&mut far, &reset), back.abort(&mut near, &reset));
        }
    }
    there.carried + back.carried
}

fn split(raw: Raw) -> (Stream, Direction) {
    let direction = Direction {
        piece: Piece::Leftover(raw.leftover),
        at: 0,
        seen: false,
        carried: 0,
        track: Track::default(),
    };
    (raw.stream, direction)
}

/// Bytes on their way in one direction.
enum Piece {
    Leftover(Bytes),
    Packet(Packet),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Leftover(bytes) => bytes,
            Piece::Packet(packet) => packet.as_ref(),
        }
    }
}

/// One direction of a relayed stream.
struct Direction {
    piece: Piece,
    /// Bytes of the piece that were written.
    at: usize,
    /// The records of the piece were followed.
    seen: bool,
    carried: u64,
    track: Track,
}

impl Direction {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), StreamError>> {
        for _ in 0..TURNS {
            if !self.seen {
                self.track.see(self.piece.bytes())?;
                self.seen = true;
            }
            ready!(self.poll_write(cx, to))?;
            if self.track.is_reset() {
                return Poll::Ready(Err(StreamError::Cut));
            }
            match from.poll_packet(cx) {
                Poll::Ready(Some(Ok(packet))) => {
                    (self.piece, self.at, self.seen) = (Piece::Packet(packet), 0, false);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                Poll::Ready(None) if self.track.is_ended() && !from.is_reset() => return Poll::Ready(Ok(())),
                Poll::Ready(None) => return Poll::Ready(Err(StreamError::Cut)),
                // The sender has ended its direction but may still fail: the next poll watches it again.
                Poll::Pending if self.track.is_ended() => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while self.at < self.piece.bytes().len() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.piece.bytes()[self.at..]))?;
            self.at += written;
            self.carried += written as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the receiving side that the other has failed, if a record may begin here.
    async fn abort(&self, to: &mut Stream, reset: &[u8]) {
        let whole = self.at == self.piece.bytes().len() && self.track.is_between();
        if whole && !self.track.is_ended() && !to.is_reset() {
            // This waits only for a receiver that gives no credit.
            let _ = timeout(LINGER, to.write_all(reset)).await;
        }
    }
}
