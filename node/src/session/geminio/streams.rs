//! A session's streams: each is carried by a task of its own, which this side hears and grants.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use limes_wire::driver::{GeminioCx, Stream};
use limes_wire::frame::Role;
use limes_wire::geminio::Word;
use limes_wire::stream::Open;
use limes_wire::{Code, Str, limits};
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use super::carry::{self, Link};
use super::{Session, State};
use crate::router::geminio_stream::{StreamCommand, StreamEvent, StreamHandle};
use crate::router::message::StreamReply;
use crate::router::stream_backlog::{CONNECTION_MAX, Crowd, Late, STREAM_MAX, Waiting, excess};
use crate::router::streams::{self, Caller};
use crate::tasks;
use crate::telemetry::port::Port;

/// Bytes of all streams that may wait to be written to the peer, beside what its connection queues.
pub(super) const WRITING_MAX: usize = 1 << 20;

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

/// The connection is not read.
#[derive(Debug)]
struct Pause {
    /// For the sake of this stream; `None`: for all together.
    of: Option<u64>,
    since: Instant,
    until: Instant,
    /// Bytes that are to be taken before it is read again.
    excess: usize,
}

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    open: HashMap<u64, StreamHandle>,
    room: Arc<Semaphore>,
    /// Bytes of all that wait for their receivers.
    all: Arc<AtomicUsize>,
    late: Late,
    /// What waits of streams that the peer has closed.
    closed: Vec<Arc<Waiting>>,
    paused: Option<Pause>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Streams {
            open: HashMap::new(),
            room: Arc::new(Semaphore::new(WRITING_MAX)),
            all: Arc::default(),
            late: Late::default(),
            closed: Vec::new(),
            paused: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The peer has taken a stream that was offered to it.
    pub(super) fn accepted(&self, session: u64) {
        if let Some(handle) = self.open.get(&session) {
            let _ = handle.events.send(StreamEvent::Accepted(session));
        }
    }

    /// Bytes beyond what leaves room: of a stream, or of all together.
    fn excess(&self, of: Option<u64>) -> usize {
        match of {
            Some(at) => self.open.get(&at).map_or(0, |handle| excess(handle.waiting.bytes(), STREAM_MAX)),
            None => excess(self.all.load(Ordering::Acquire), CONNECTION_MAX),
        }
    }

    fn late(&mut self, of: Option<u64>) -> &mut Late {
        match of.and_then(|at| self.open.get_mut(&at)) {
            Some(handle) => &mut handle.late,
            None => &mut self.late,
        }
    }

    /// Stops the reading if too much waits, now that this stream has said something.
    fn pause_if_crowded(&mut self, role: Role, at: u64, cx: &mut GeminioCx) {
        let crowd = self.open.get(&at).and_then(|handle| handle.waiting.crowd());
        let Some(crowd) = crowd else { return };
        let of = (crowd == Crowd::Stream).then_some(at);
        let (since, excess) = (cx.now(), self.excess(of));
        let until = since + self.late(of).patience(role, excess);
        self.paused = Some(Pause { of, since, until, excess });
        cx.pause(true);
        cx.wake_at(until);
    }

    /// Reads on if there is room again.
    fn resume_if_roomy(&mut self, cx: &mut GeminioCx) {
        let Some(pause) = self.paused.take() else { return };
        if self.excess(pause.of) > 0 {
            self.paused = Some(pause);
            return;
        }
        self.late(pause.of).paused(cx.now().saturating_duration_since(pause.since), pause.excess);
        cx.pause(false);
    }

    /// Takes out the stream for whose sake the reading has stopped: if that is all of them, the one of which
    /// the most waits, which may have been closed by the peer already.
    fn take_slowest(&mut self, of: Option<u64>) -> Option<(Option<u64>, Arc<Waiting>)> {
        let open = self.open.iter().filter(|(at, _)| of.is_none_or(|of| of == **at));
        let open = open.map(|(at, handle)| (Some(*at), &handle.waiting));
        let closed = self.closed.iter().filter(|_| of.is_none()).map(|waiting| (None, waiting));
        let (at, waiting) = open.chain(closed).max_by_key(|(_, waiting)| waiting.bytes())?;
        let slowest = (at, waiting.clone());
        if let Some(at) = at {
            self.open.remove(&at);
        }
        Some(slowest)
    }

    /// Notes what waits of a stream that the peer has closed.
    fn note_closed(&mut self, waiting: Arc<Waiting>) {
        if waiting.bytes() == 0 {
            return;
        }
        if self.closed.len() == self.closed.capacity() {
            self.closed.retain(|waiting| waiting.bytes() > 0);
        }
        self.closed.push(waiting);
    }

    fn handle(&self) -> (StreamHandle, Ends) {
        let (words, heard) = mpsc::unbounded_channel();
        let waiting = Waiting::new(self.all.clone());
        let handle = StreamHandle { events: words, waiting: waiting.clone(), late: Late::default() };
        (handle, Ends { heard, waiting, room: self.room.clone() })
    }
}

/// The task's end, before it knows its stream.
pub(super) struct Ends {
    pub(super) heard: mpsc::UnboundedReceiver<StreamEvent>,
    pub(super) waiting: Arc<Waiting>,
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
    tasks::spawn(tasks::Kind::Stream, streams::serve(session.ctx.router.clone(), caller, far));
    let link = Link::new(session.handle.clone(), ends, at);
    tasks::spawn(tasks::Kind::Stream, carry::opened(link, near, open));
}

/// Somebody opens a stream to the peer.
pub(super) fn open(session: &mut Session, reply: StreamReply) {
    if session.state != State::Open {
        let _ = reply.send(Err(Code::GONE));
        return;
    }
    let (handle, ends) = session.streams.handle();
    let (near, far) = Stream::pair();
    let link = Link::new(session.handle.clone(), ends, 0);
    tasks::spawn(tasks::Kind::Stream, carry::offered(link, near, handle));
    let _ = reply.send(Ok(far));
}

/// The peer says something on a stream.
pub(super) fn heard(session: &mut Session, at: u64, id: u64, word: Word, cx: &mut GeminioCx) {
    let Some(handle) = session.streams.open.get(&at) else { return };
    let load = handle.waiting.load(weight(&word));
    // If its task is gone, the word is thrown away and counts no more.
    let _ = handle.events.send(StreamEvent::Packet(id, Box::new(word), load));
    session.streams.pause_if_crowded(session.role, at, cx);
}

/// The peer is done with a stream.
pub(super) fn ended(session: &mut Session, at: u64, cx: &mut GeminioCx) {
    if let Some(handle) = session.streams.open.remove(&at) {
        let _ = handle.events.send(StreamEvent::End);
        session.streams.note_closed(handle.waiting);
    }
    session.streams.resume_if_roomy(cx);
}

/// Does what the task of a stream wants.
pub(super) fn execute(session: &mut Session, command: StreamCommand, cx: &mut GeminioCx) {
    let now = cx.now();
    match command {
        StreamCommand::Offer { peer, meta, handle } => {
            // If it cannot be offered the handle is dropped, which its task hears.
            if session.state == State::Open {
                match cx.conn.offer(now, peer, meta) {
                    Ok(at) => drop(session.streams.open.insert(at, handle)),
                    Err(code) => not_offered(session, code, now),
                }
            }
        }
        StreamCommand::Accept(at) => {
            cx.conn.accept(at);
        }
        StreamCommand::Send(at, id, word, _room) => {
            if cx.conn.send(now, at, id, word).is_err() {
                cx.conn.dismiss(now, at);
            }
        }
        StreamCommand::Dismiss(at) => cx.conn.dismiss(now, at),
        StreamCommand::Room => session.streams.resume_if_roomy(cx),
    }
}

/// A client of the reference that opens a stream sees it taken and closed: so somebody must be told why.
fn not_offered(session: &Session, code: Code, now: Instant) {
    let port = Port::of(session.role);
    if let Some(more) = session.ctx.telemetry.log.first(port, code, now) {
        let (no, id, open) = (session.no, session.id, session.streams.open.len());
        warn!(port = port.name(), session = no, id, open, %code, more, "a stream cannot be offered (geminio)");
    }
}

/// Closes the stream for whose sake the connection has not been read for too long.
pub(super) fn expire(session: &mut Session, now: Instant, cx: &mut GeminioCx) {
    session.streams.resume_if_roomy(cx);
    let Some(pause) = &session.streams.paused else { return };
    if now < pause.until {
        return cx.wake_at(pause.until);
    }
    let slowest = session.streams.take_slowest(pause.of);
    session.streams.paused = None;
    cx.pause(false);
    let Some((at, waiting)) = slowest else { return };
    if let Some(at) = at {
        cx.conn.dismiss(now, at);
    }
    let bytes = waiting.bytes();
    waiting.abort();
    session.ctx.telemetry.metrics.slow_stream();
    let port = Port::of(session.role);
    if let Some(more) = session.ctx.telemetry.log.first(port, Code::TIMEOUT, now) {
        let (no, id) = (session.no, session.id);
        let text = "closed a stream whose receiver is too slow for what its sender sends";
        warn!(port = port.name(), session = no, id, bytes, more, "{text} (geminio)");
    }
}
