//! The task of one stream: between the packets of its session and the records of the way to its
//! other end.
//!
//! The dialect closes a stream in both directions at once. So an END from the other end closes it
//! for the client, and a client that closes sends END; what comes for it after that is dropped.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use limes_wire::driver::{RecordStream, Stream};
use limes_wire::geminio::{MessageData, Word};
use limes_wire::stream::Open;
use limes_wire::{Code, geminio};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::streams::{Ends, weight};
use super::tunnel;
use crate::router::geminio_stream::{StreamCommand, StreamEvent, StreamHandle};
use crate::router::message::{GeminioMessage, TaskHandle};

/// How long the receiver may take to accept: less than the 30 s that clients wait.
const ACCEPT_TIME: Duration = Duration::from_secs(29);
/// How long the session may take to say what a stream is for.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// How long a direction may go on after the other has ended.
const REST: Duration = geminio::DISMISS;
/// Raw bytes in one packet, at most: as much as the reference puts into one.
const PIECE: usize = 32 << 10;

/// The task's way to its session.
pub(super) struct Link {
    handle: TaskHandle<GeminioMessage>,
    ends: Ends,
    /// The stream's number; 0 until it is known.
    at: u64,
}

impl Link {
    pub(super) fn new(handle: TaskHandle<GeminioMessage>, ends: Ends, at: u64) -> Self {
        Link { handle, ends, at }
    }

    fn wish(&self, wish: StreamCommand) -> bool {
        self.handle.mailbox().push_always(GeminioMessage::Stream(Box::new(wish)))
    }

    /// Takes what is heard next; `None`: the connection is lost.
    async fn hear(&mut self) -> Option<Said> {
        Some(match self.ends.heard.recv().await? {
            StreamEvent::Accepted(at) => Said::Accepted(at),
            StreamEvent::End => Said::End,
            StreamEvent::Packet(id, word, load) => {
                if load.take() {
                    self.wish(StreamCommand::Room);
                }
                Said::Word(id, word)
            }
        })
    }

    fn mouth(&self) -> Mouth {
        Mouth { handle: self.handle.clone(), room: self.ends.room.clone(), at: self.at }
    }
}

impl Drop for Link {
    /// What is not carried any more does not wait any more.
    fn drop(&mut self) {
        self.ends.heard.close();
        let mut some = false;
        while let Ok(heard) = self.ends.heard.try_recv() {
            some |= matches!(heard, StreamEvent::Packet(..));
        }
        if some {
            self.wish(StreamCommand::Room);
        }
    }
}

/// As [`StreamEvent`], when it waits no more.
enum Said {
    Accepted(u64),
    Word(u64, Box<Word>),
    End,
}

/// Says things on the stream, no faster than the peer takes them.
#[derive(Clone)]
struct Mouth {
    handle: TaskHandle<GeminioMessage>,
    room: std::sync::Arc<tokio::sync::Semaphore>,
    at: u64,
}

impl Mouth {
    /// False: the connection is gone.
    async fn say(&self, id: u64, word: Word) -> bool {
        let size = u32::try_from(weight(&word)).unwrap_or(u32::MAX).min(super::streams::WRITING_MAX as u32);
        let Ok(room) = self.room.clone().acquire_many_owned(size).await else { return false };
        self.handle
            .mailbox()
            .push_always(GeminioMessage::Stream(Box::new(StreamCommand::Send(self.at, id, word, room))))
    }

    fn dismiss(&self) {
        self.handle.mailbox().push_always(GeminioMessage::Stream(Box::new(StreamCommand::Dismiss(self.at))));
    }
}

/// A stream that the peer has opened, to its end.
pub(super) async fn opened(mut link: Link, near: Stream, open: Open) {
    let mut far = RecordStream::new(near);
    let accept = async {
        far.write_open(&open).await.ok()?;
        far.read_accept().await.ok()
    };
    let accepted = tokio::select! {
        accepted = timeout(ACCEPT_TIME, accept) => accepted.ok().flatten(),
        // Nothing but an end can come before the peer's stream is taken.
        _ = link.hear() => return,
    };
    let Some(meta) = accepted else {
        link.wish(StreamCommand::Dismiss(link.at));
        return;
    };
    link.wish(StreamCommand::Accept(link.at));
    carry(link, far, meta == tunnel::ACCEPT).await;
}

/// A stream that somebody opens to the peer, to its end.
pub(super) async fn offered(mut link: Link, near: Stream, handle: StreamHandle) {
    let mut far = RecordStream::new(near);
    let Ok(Ok(open)) = timeout(OPEN_TIME, far.read_open()).await else { return };
    let (tunnel, meta) = match open.meta.split_first() {
        Some((flag, _)) => (*flag == 1, open.meta.slice(1..)),
        None => (false, Bytes::new()),
    };
    link.wish(StreamCommand::Offer { peer: open.peer.to_string(), meta, handle });
    // The session gives the offer up by itself, after 30 s.
    let Some(Said::Accepted(at)) = link.hear().await else {
        return far.reset(Code::REFUSED, "the receiver did not take the stream").await;
    };
    link.at = at;
    let accept = if tunnel { tunnel::ACCEPT } else { &[] };
    if far.write_accept(accept).await.is_err() {
        link.wish(StreamCommand::Dismiss(at));
        return;
    }
    carry(link, far, tunnel).await;
}

/// Both directions, to their ends, or until the session cuts it: the other end learns of that as of a
/// connection that is lost.
async fn carry(link: Link, far: RecordStream, tunnel: bool) {
    let waiting = link.ends.waiting.clone();
    tokio::select! {
        () = carry_whole(link, far, tunnel) => {}
        () = waiting.aborted() => {}
    }
}

async fn carry_whole(link: Link, far: RecordStream, tunnel: bool) {
    let mouth = link.mouth();
    let (read, write) = tokio::io::split(far);
    let outward = outward(link, write, tunnel);
    let homeward = homeward(mouth, read, tunnel);
    tokio::pin!(outward, homeward);
    tokio::select! {
        ended = &mut outward => {
            if ended {
                let _ = timeout(REST, homeward).await;
            }
        }
        ended = &mut homeward => {
            if ended {
                let _ = timeout(REST, outward).await;
            }
        }
    }
}

/// From the client to the other end; true: it has ended as it should.
async fn outward(mut link: Link, mut far: WriteHalf<RecordStream>, tunnel: bool) -> bool {
    let mouth = link.mouth();
    loop {
        let (id, word) = match link.hear().await {
            Some(Said::Word(id, word)) => (id, *word),
            Some(Said::End) => return far.shutdown().await.is_ok(),
            Some(Said::Accepted(_)) => continue,
            // Dropped without an END: the other end learns that bytes may be missing.
            None => return false,
        };
        let written = match word {
            // For the reference a method of a stream is a matter of the client alone.
            Word::Register(_) => mouth.say(id, Word::RegisterAck(String::new())).await,
            word if tunnel => far.write_all(&tunnel::encode(id, &word)).await.is_ok(),
            Word::Data(bytes) => far.write_all(&bytes).await.is_ok(),
            word => match refusal(word) {
                Some(answer) => mouth.say(id, answer).await,
                None => true,
            },
        };
        let flushed = !link.ends.heard.is_empty() || far.flush().await.is_ok();
        if !written || !flushed {
            mouth.dismiss();
            return false;
        }
    }
}

/// What a peer of the native dialect would say: it knows neither calls nor messages on streams.
fn refusal(word: Word) -> Option<Word> {
    match word {
        Word::Request(data) => {
            let error = format!("no such rpc: {}", String::from_utf8_lossy(&data.key));
            Some(Word::Response(MessageData { key: data.key, ..MessageData::failed(error) }))
        }
        Word::Message(_) => {
            let error = "the other end of the stream takes no messages";
            Some(Word::MessageAck(MessageData::failed(error)))
        }
        _ => None,
    }
}

/// From the other end to the client; true: it has ended as it should.
async fn homeward(mouth: Mouth, mut far: ReadHalf<RecordStream>, tunnel: bool) -> bool {
    let mut input = BytesMut::new();
    let mut last = 0;
    loop {
        input.reserve(PIECE);
        let ended = match far.read_buf(&mut input).await {
            Ok(0) => Some(input.is_empty()),
            Ok(_) => None,
            Err(_) => Some(false),
        };
        if let Some(ended) = ended {
            mouth.dismiss();
            return ended;
        }
        if !tunnel {
            last += 1;
            if !mouth.say(last, Word::Data(input.split().freeze())).await {
                return false;
            }
            continue;
        }
        loop {
            match tunnel::decode(&mut input) {
                Ok(Some((id, word))) => {
                    if !mouth.say(id, word).await {
                        return false;
                    }
                }
                Ok(None) => break,
                Err(()) => {
                    mouth.dismiss();
                    return false;
                }
            }
        }
    }
}
