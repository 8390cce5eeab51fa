//! A session's streams: each is carried by a task of its own, which this side hears and grants.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use limes_wire::driver::{GeminioCx, Stream};
use limes_wire::frame::Role;
use limes_wire::geminio::Word;
use limes_wire::stream::Open;
use limes_wire::{Code, Str, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::carry::{self, Link};
use super::{Session, State};
use crate::stream::{Caller, Opened};
use crate::{stream, task};

/// Bytes of one stream that may wait for its receiver. The dialect has no flow control: beyond
/// this the whole connection is not read.
const WAITING_MAX: usize = 16 << 20;
/// A queue that is so much shorter has room again: soon, for other streams wait as well.
const ROOM: usize = 256 << 10;
/// How long a connection is not read for the sake of one stream, before that stream is closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of all streams that may wait to be written to the peer, beside what its connection queues.
pub(super) const WRITING_MAX: usize = 1 << 20;

/// What the task of a stream hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// The peer has taken the stream, under this number.
    Accepted(u64),
    /// The peer says something; the first number is the packet's.
    Word(u64, Box<Word>),
    /// Nothing more comes. A sender that is dropped without this has lost its connection.
    End,
}

/// What the task of a stream wants done on the connection.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Offer the peer a stream, which this handle hears.
    Offer { peer: String, meta: Bytes, handle: Handle },
    /// Take the stream that the peer has opened.
    Accept(u64),
    /// Say something with a packet id on a stream; the room that it takes until then.
    Say(u64, u64, Word, OwnedSemaphorePermit),
    /// Close a stream.
    Dismiss(u64),
    /// A stream's queue has room again.
    Room(u64),
}

/// The session's end of a stream's task.
#[derive(Debug)]
pub(crate) struct Handle {
    words: mpsc::UnboundedSender<Heard>,
    queued: Arc<AtomicUsize>,
}

/// Bytes that a word counts for.
pub(super) fn weight(word: &Word) -> usize {
    64 + match word {
        Word::Data(bytes) | Word::Register(bytes) => bytes.len(),
        Word::Message(data) | Word::MessageAck(data) | Word::Request(data) | Word::Response(data) => {
            data.key.len() + data.value.len() + data.custom.len() + data.topic.len() + data.error.len()
        }
        Word::RegisterAck(error) => error.len(),
        Word::Cancel(_) => 0,
    }
}

/// Whether the queue has just got room again, being this long before something this long left it.
pub(super) fn makes_room(before: usize, taken: usize) -> bool {
    let room = WAITING_MAX - ROOM;
    before > room && before - taken <= room
}

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    open: HashMap<u64, Handle>,
    room: Arc<Semaphore>,
    /// The connection is not read because of this stream, until then at most.
    paused: Option<(u64, Instant)>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Streams { open: HashMap::new(), room: Arc::new(Semaphore::new(WRITING_MAX)), paused: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The peer has taken a stream that was offered to it.
    pub(super) fn accepted(&self, session: u64) {
        if let Some(handle) = self.open.get(&session) {
            let _ = handle.words.send(Heard::Accepted(session));
        }
    }

    fn resume(&mut self, session: u64, cx: &mut GeminioCx) {
        if self.paused.is_some_and(|(paused, _)| paused == session) {
            self.paused = None;
            cx.pause(false);
        }
    }

    fn handle(&self) -> (Handle, Ends) {
        let (words, heard) = mpsc::unbounded_channel();
        let queued = Arc::<AtomicUsize>::default();
        (Handle { words, queued: queued.clone() }, Ends { heard, queued, room: self.room.clone() })
    }
}

/// The task's end, before it knows its stream.
pub(super) struct Ends {
    pub(super) heard: mpsc::UnboundedReceiver<Heard>,
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) room: Arc<Semaphore>,
}

/// The peer opens a stream: an edge to a service's name, a service to an edge's id.
pub(super) fn opening(session: &mut Session, at: u64, peer: &str, meta: Bytes, cx: &mut GeminioCx) {
    let open = match session.role {
        Role::Edge => Some(Open { name: Str::from(peer), meta, ..Open::default() }),
        _ => peer.parse().ok().map(|peer| Open { peer, meta, ..Open::default() }),
    };
    let usable = |open: &Open| open.name.len() <= limits::NAME_MAX && open.meta.len() <= limits::META_MAX;
    let alive = matches!(session.state, State::Open | State::Retiring(_));
    let Some(open) = open.filter(usable).filter(|_| alive) else {
        // As the reference's clients expect it: taken, and closed at once.
        return cx.conn.dismiss(cx.now(), at);
    };
    let (handle, ends) = session.streams.handle();
    session.streams.open.insert(at, handle);
    let (near, far) = Stream::pair();
    let caller = Caller { role: session.role, id: session.id, remote: session.remote, tunnel: true };
    task::spawn(task::Kind::Stream, stream::serve(session.node.clone(), caller, far));
    let link = Link::new(session.outbox.clone(), ends, at);
    task::spawn(task::Kind::Stream, carry::opened(link, near, open));
}

/// Somebody opens a stream to the peer.
pub(super) fn open(session: &mut Session, reply: Opened) {
    if session.state != State::Open {
        let _ = reply.send(Err(Code::GONE));
        return;
    }
    let (handle, ends) = session.streams.handle();
    let (near, far) = Stream::pair();
    let link = Link::new(session.outbox.clone(), ends, 0);
    task::spawn(task::Kind::Stream, carry::offered(link, near, handle));
    let _ = reply.send(Ok(far));
}

/// The peer says something on a stream.
pub(super) fn heard(session: &mut Session, at: u64, id: u64, word: Word, cx: &mut GeminioCx) {
    let Some(handle) = session.streams.open.get(&at) else { return };
    let weight = weight(&word);
    let queued = handle.queued.fetch_add(weight, Ordering::AcqRel) + weight;
    let _ = handle.words.send(Heard::Word(id, Box::new(word)));
    if queued > WAITING_MAX {
        let until = cx.now() + PATIENCE;
        session.streams.paused = Some((at, until));
        cx.pause(true);
        cx.wake_at(until);
    }
}

/// The peer is done with a stream.
pub(super) fn ended(session: &mut Session, at: u64, cx: &mut GeminioCx) {
    if let Some(handle) = session.streams.open.remove(&at) {
        let _ = handle.words.send(Heard::End);
    }
    session.streams.resume(at, cx);
}

/// Does what the task of a stream wants.
pub(super) fn grant(session: &mut Session, wish: Wish, cx: &mut GeminioCx) {
    let now = cx.now();
    match wish {
        Wish::Offer { peer, meta, handle } => {
            // If it cannot be offered the handle is dropped, which its task hears.
            if session.state == State::Open
                && let Ok(at) = cx.conn.offer(now, peer, meta)
            {
                session.streams.open.insert(at, handle);
            }
        }
        Wish::Accept(at) => {
            cx.conn.accept(at);
        }
        Wish::Say(at, id, word, _room) => {
            if cx.conn.send(now, at, id, word).is_err() {
                cx.conn.dismiss(now, at);
            }
        }
        Wish::Dismiss(at) => cx.conn.dismiss(now, at),
        Wish::Room(at) => session.streams.resume(at, cx),
    }
}

/// Closes the stream for whose sake the connection has not been read for too long.
pub(super) fn expire(session: &mut Session, now: Instant, cx: &mut GeminioCx) {
    let Some((at, until)) = session.streams.paused else { return };
    if now < until {
        return cx.wake_at(until);
    }
    session.streams.open.remove(&at);
    cx.conn.dismiss(now, at);
    session.streams.resume(at, cx);
}
