//! Carrying a stream from one connection to another, records and all.

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

/// Pieces carried before other tasks of the thread get their turn.
const TURNS: usize = 64;

/// A stream without records, and what had been read from it already.
#[derive(Debug)]
pub struct Raw {
    /// The stream.
    pub stream: Stream,
    /// Bytes that come before it.
    pub leftover: Bytes,
}

/// Carries bytes both ways until both directions have ended or one side breaks; gives the bytes
/// carried. Of each direction it holds one piece, as it came; yamux's credit holds the rest back.
///
/// A side that breaks takes the other with it: that one gets a RESET if it can, and yamux's in any
/// case, so that its reader and its writer both learn.
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

fn split(raw: Raw) -> (Stream, Way) {
    let way =
        Way { piece: Piece::Leftover(raw.leftover), at: 0, seen: false, carried: 0, track: Track::default() };
    (raw.stream, way)
}

/// What is under way in one direction.
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

/// One direction.
struct Way {
    piece: Piece,
    /// Bytes of the piece that are written.
    at: usize,
    /// The piece has been looked at.
    seen: bool,
    carried: u64,
    track: Track,
}

impl Way {
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
                // Its owner says no more, but may still break: it goes on being watched.
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

    /// Tells the receiving side that the other has broken, where a record may begin.
    async fn abort(&self, to: &mut Stream, reset: &[u8]) {
        let whole = self.at == self.piece.bytes().len() && self.track.is_between();
        if whole && !self.track.is_ended() && !to.is_reset() {
            // Only for a receiver without credit it takes a while, and then it is in vain.
            let _ = timeout(LINGER, to.write_all(reset)).await;
        }
    }
}
