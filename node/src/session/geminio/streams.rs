//! The streams of one geminio connection, and when the connection is not read because of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use limes_wire::driver::GeminioCx;
use limes_wire::frame::Role;
use limes_wire::geminio::Word;
use tokio::sync::{Semaphore, mpsc};

use crate::router::geminio_stream::{StreamEvent, StreamHandle};
use crate::router::stream_backlog::{CONNECTION_MAX, Crowd, Late, STREAM_MAX, Waiting, excess};

/// Bytes of all streams that may wait to be written to the peer, beside what its connection queues.
pub(super) const WRITING_MAX: usize = 1 << 20;

/// Bytes that a packet counts for.
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
pub(super) struct Pause {
    /// The stream because of which; `None`: because of all streams together.
    pub(super) stream: Option<u64>,
    since: Instant,
    /// When a stream is closed to end the pause.
    pub(super) until: Instant,
    /// Bytes that must be taken before the connection is read again.
    excess: usize,
}

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) open: HashMap<u64, StreamHandle>,
    room: Arc<Semaphore>,
    /// Bytes of all streams that wait for their receivers.
    all: Arc<AtomicUsize>,
    late: Late,
    /// What waits of streams that the peer has closed.
    closed: Vec<Arc<Waiting>>,
    pub(super) paused: Option<Pause>,
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

    /// The peer has accepted a stream that was offered to it.
    pub(super) fn accepted(&self, stream: u64) {
        if let Some(handle) = self.open.get(&stream) {
            let _ = handle.events.send(StreamEvent::Accepted(stream));
        }
    }

    /// Bytes beyond what leaves room, of one stream or of all together.
    fn excess(&self, stream: Option<u64>) -> usize {
        match stream {
            Some(at) => self.open.get(&at).map_or(0, |handle| excess(handle.waiting.bytes(), STREAM_MAX)),
            None => excess(self.all.load(Ordering::Acquire), CONNECTION_MAX),
        }
    }

    fn late(&mut self, stream: Option<u64>) -> &mut Late {
        match stream.and_then(|at| self.open.get_mut(&at)) {
            Some(handle) => &mut handle.late,
            None => &mut self.late,
        }
    }

    /// Stops reading the connection if too much waits after a packet on this stream.
    pub(super) fn pause_if_crowded(&mut self, role: Role, at: u64, cx: &mut GeminioCx) {
        let crowd = self.open.get(&at).and_then(|handle| handle.waiting.crowd());
        let Some(crowd) = crowd else { return };
        let stream = (crowd == Crowd::Stream).then_some(at);
        let (since, excess) = (cx.now(), self.excess(stream));
        let until = since + self.late(stream).patience(role, excess);
        self.paused = Some(Pause { stream, since, until, excess });
        cx.pause(true);
        cx.wake_at(until);
    }

    /// Resumes reading if there is room again.
    pub(super) fn resume_if_roomy(&mut self, cx: &mut GeminioCx) {
        let Some(pause) = self.paused.take() else { return };
        if self.excess(pause.stream) > 0 {
            self.paused = Some(pause);
            return;
        }
        self.late(pause.stream).paused(cx.now().saturating_duration_since(pause.since), pause.excess);
        cx.pause(false);
    }

    /// Removes the stream because of which the connection is not read. If that is all of them: the one of which most
    /// waits; the peer may have closed it already, then it has no number.
    pub(super) fn take_slowest(&mut self, stream: Option<u64>) -> Option<(Option<u64>, Arc<Waiting>)> {
        let open = self.open.iter().filter(|(at, _)| stream.is_none_or(|stream| stream == **at));
        let open = open.map(|(at, handle)| (Some(*at), &handle.waiting));
        let closed = self.closed.iter().filter(|_| stream.is_none()).map(|waiting| (None, waiting));
        let (at, waiting) = open.chain(closed).max_by_key(|(_, waiting)| waiting.bytes())?;
        let slowest = (at, waiting.clone());
        if let Some(at) = at {
            self.open.remove(&at);
        }
        Some(slowest)
    }

    /// Keeps count of what waits of a stream that the peer has closed.
    pub(super) fn note_closed(&mut self, waiting: Arc<Waiting>) {
        if waiting.bytes() == 0 {
            return;
        }
        if self.closed.len() == self.closed.capacity() {
            self.closed.retain(|waiting| waiting.bytes() > 0);
        }
        self.closed.push(waiting);
    }

    /// The two ends between the session and the task of a new stream.
    pub(super) fn channel(&self) -> (StreamHandle, TaskEnd) {
        let (sender, events) = mpsc::unbounded_channel();
        let waiting = Waiting::new(self.all.clone());
        let handle = StreamHandle { events: sender, waiting: waiting.clone(), late: Late::default() };
        (handle, TaskEnd { events, waiting, room: self.room.clone() })
    }
}

/// The task's end of the channel between a session and the task of one stream.
pub(super) struct TaskEnd {
    /// What the peer does on the stream.
    pub(super) events: mpsc::UnboundedReceiver<StreamEvent>,
    /// Bytes of `events` that are not taken yet.
    pub(super) waiting: Arc<Waiting>,
    /// Bounds what waits to be written to the peer.
    pub(super) room: Arc<Semaphore>,
}
