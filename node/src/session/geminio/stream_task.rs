//! The task of one stream: between the packets of its session and the records of the route to its other end.
//!
//! Geminio closes a stream in both directions at once. An END from the other end closes the stream for the client; when
//! the client closes, the task sends END and drops what still arrives for the client.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use limes_wire::driver::{RecordStream, Stream};
use limes_wire::geminio::{MessageData, Word};
use limes_wire::stream::Open;
use limes_wire::{Code, geminio};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::streams::{TaskEnd, WRITING_MAX, weight};
use super::tunnel;
use crate::router::geminio_stream::{StreamCommand, StreamEvent, StreamHandle};
use crate::router::message::{GeminioMessage, TaskHandle};

/// How long the receiver may take to accept: less than the 30 s that clients wait.
const ACCEPT_TIME: Duration = Duration::from_secs(29);
/// How long the opening session may take to send the open record.
const OPEN_TIME: Duration = Duration::from_secs(10);
/// How long a direction may go on after the other has ended.
const REST: Duration = geminio::DISMISS;
/// Raw bytes in one packet, at most: as much as the reference puts into one.
const CHUNK: usize = 32 << 10;

/// The task's connection to its session.
pub(super) struct SessionLink {
    handle: TaskHandle<GeminioMessage>,
    end: TaskEnd,
}

impl SessionLink {
    pub(super) fn new(handle: TaskHandle<GeminioMessage>, end: TaskEnd) -> Self {
        SessionLink { handle, end }
    }

    fn command(&self, command: StreamCommand) -> bool {
        self.handle.mailbox().push_always(GeminioMessage::Stream(Box::new(command)))
    }

    /// Takes the next event of the peer; `None`: the connection is lost.
    async fn next(&mut self) -> Option<PeerEvent> {
        Some(match self.end.events.recv().await? {
            StreamEvent::Accepted(at) => PeerEvent::Accepted(at),
            StreamEvent::End => PeerEvent::End,
            StreamEvent::Packet(id, word, load) => {
                if load.take() {
                    self.command(StreamCommand::Room);
                }
                PeerEvent::Packet(id, word)
            }
        })
    }

    fn writer(&self, at: u64) -> PacketWriter {
        PacketWriter { handle: self.handle.clone(), room: self.end.room.clone(), at }
    }
}

impl Drop for SessionLink {
    /// Releases the room of the packets that are no longer relayed.
    fn drop(&mut self) {
        self.end.events.close();
        let mut some = false;
        while let Ok(event) = self.end.events.try_recv() {
            some |= matches!(event, StreamEvent::Packet(..));
        }
        if some {
            self.command(StreamCommand::Room);
        }
    }
}

/// A [`StreamEvent`] whose bytes no longer count as waiting.
enum PeerEvent {
    Accepted(u64),
    Packet(u64, Box<Word>),
    End,
}

/// Writes packets on the stream, no faster than the peer takes them.
#[derive(Clone)]
struct PacketWriter {
    handle: TaskHandle<GeminioMessage>,
    room: std::sync::Arc<tokio::sync::Semaphore>,
    at: u64,
}

impl PacketWriter {
    /// Queues a packet; false: the connection is gone.
    async fn write(&self, id: u64, word: Word) -> bool {
        let size = u32::try_from(weight(&word)).unwrap_or(u32::MAX).min(WRITING_MAX as u32);
        let Ok(room) = self.room.clone().acquire_many_owned(size).await else { return false };
        self.command(StreamCommand::Send(self.at, id, word, room))
    }

    fn dismiss(&self) {
        self.command(StreamCommand::Dismiss(self.at));
    }

    fn command(&self, command: StreamCommand) -> bool {
        self.handle.mailbox().push_always(GeminioMessage::Stream(Box::new(command)))
    }
}

/// Runs a stream that the peer has opened under this number, to its end.
pub(super) async fn opened(mut link: SessionLink, at: u64, near: Stream, open: Open) {
    let mut far = RecordStream::new(near);
    let accept = async {
        far.write_open(&open).await.ok()?;
        far.read_accept().await.ok()
    };
    let accepted = tokio::select! {
        accepted = timeout(ACCEPT_TIME, accept) => accepted.ok().flatten(),
        // Before the stream is accepted the peer can only end it.
        _ = link.next() => return,
    };
    let Some(meta) = accepted else {
        link.command(StreamCommand::Dismiss(at));
        return;
    };
    link.command(StreamCommand::Accept(at));
    relay(link, at, far, meta == tunnel::ACCEPT).await;
}

/// Runs a stream that another session opens to the peer, to its end.
pub(super) async fn offered(mut link: SessionLink, near: Stream, handle: StreamHandle) {
    let mut far = RecordStream::new(near);
    let Ok(Ok(open)) = timeout(OPEN_TIME, far.read_open()).await else { return };
    let (tunnel, meta) = match open.meta.split_first() {
        Some((flag, _)) => (*flag == 1, open.meta.slice(1..)),
        None => (false, Bytes::new()),
    };
    link.command(StreamCommand::Offer { peer: open.peer.to_string(), meta, handle });
    // The session withdraws the offer after 30 s.
    let Some(PeerEvent::Accepted(at)) = link.next().await else {
        return far.reset(Code::REFUSED, "the receiver did not take the stream").await;
    };
    let accept = if tunnel { tunnel::ACCEPT } else { &[] };
    if far.write_accept(accept).await.is_err() {
        link.command(StreamCommand::Dismiss(at));
        return;
    }
    relay(link, at, far, tunnel).await;
}

/// Relays both directions to their ends, or until the session drops the stream, which the other end sees as a lost
/// connection.
async fn relay(link: SessionLink, at: u64, far: RecordStream, tunnel: bool) {
    let waiting = link.end.waiting.clone();
    tokio::select! {
        () = relay_both(link, at, far, tunnel) => {}
        () = waiting.aborted() => {}
    }
}

async fn relay_both(link: SessionLink, at: u64, far: RecordStream, tunnel: bool) {
    let writer = link.writer(at);
    let (read, write) = tokio::io::split(far);
    let from_peer = from_peer(link, writer.clone(), write, tunnel);
    let to_peer = to_peer(writer, read, tunnel);
    tokio::pin!(from_peer, to_peer);
    tokio::select! {
        ended = &mut from_peer => {
            if ended {
                let _ = timeout(REST, to_peer).await;
            }
        }
        ended = &mut to_peer => {
            if ended {
                let _ = timeout(REST, from_peer).await;
            }
        }
    }
}

/// Relays from the peer to the other end; true: the peer has closed the stream and the other end knows.
async fn from_peer(
    mut link: SessionLink,
    writer: PacketWriter,
    mut far: WriteHalf<RecordStream>,
    tunnel: bool,
) -> bool {
    loop {
        let (id, word) = match link.next().await {
            Some(PeerEvent::Packet(id, word)) => (id, *word),
            Some(PeerEvent::End) => return far.shutdown().await.is_ok(),
            Some(PeerEvent::Accepted(_)) => continue,
            // Dropped without END, so that the other end knows that bytes may be missing.
            None => return false,
        };
        let written = match word {
            // In the reference, only the client itself uses the methods of a stream.
            Word::Register(_) => writer.write(id, Word::RegisterAck(String::new())).await,
            word if tunnel => far.write_all(&tunnel::encode(id, &word)).await.is_ok(),
            Word::Data(bytes) => far.write_all(&bytes).await.is_ok(),
            word => match refusal(word) {
                Some(answer) => writer.write(id, answer).await,
                None => true,
            },
        };
        let flushed = !link.end.events.is_empty() || far.flush().await.is_ok();
        if !written || !flushed {
            writer.dismiss();
            return false;
        }
    }
}

/// The answer to a call or message on a stream to a native peer, whose protocol has neither on streams.
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

/// Relays from the other end to the peer; true: the other end has closed the stream between two packets.
async fn to_peer(writer: PacketWriter, mut far: ReadHalf<RecordStream>, tunnel: bool) -> bool {
    let mut input = BytesMut::new();
    let mut last = 0;
    loop {
        input.reserve(CHUNK);
        let ended = match far.read_buf(&mut input).await {
            Ok(0) => Some(input.is_empty()),
            Ok(_) => None,
            Err(_) => Some(false),
        };
        if let Some(ended) = ended {
            writer.dismiss();
            return ended;
        }
        let written = if tunnel {
            write_frames(&writer, &mut input).await
        } else {
            last += 1;
            writer.write(last, Word::Data(input.split().freeze())).await
        };
        if !written {
            return false;
        }
    }
}

/// Writes the packets that `input` holds in full; false: the stream cannot go on.
async fn write_frames(writer: &PacketWriter, input: &mut BytesMut) -> bool {
    loop {
        match tunnel::decode(input) {
            Ok(Some((id, word))) => {
                if !writer.write(id, word).await {
                    return false;
                }
            }
            Ok(None) => return true,
            Err(tunnel::NoFrame) => {
                writer.dismiss();
                return false;
            }
        }
    }
}
