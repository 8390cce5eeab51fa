//! What the peer and the tasks of its streams do to the streams of a session.

use std::time::Instant;

use bytes::Bytes;
use limes_wire::driver::{GeminioCx, Stream};
use limes_wire::frame::Role;
use limes_wire::geminio::StreamPacket;
use limes_wire::stream::Open;
use limes_wire::{Code, Str, limits};
use tracing::warn;

use super::state::GeminioSession;
use super::stream_task::{self, SessionLink};
use super::streams::weight;
use crate::router::geminio_stream::{StreamCommand, StreamEvent};
use crate::router::message::StreamReply;
use crate::router::streams;
use crate::session::state::State;
use crate::tasks;
use crate::telemetry::dictionary;
use crate::telemetry::port::Port;

/// The peer opens a stream: an edge to the name of a service, a service to the id of an edge.
pub(super) fn opening(session: &mut GeminioSession, at: u64, peer: &str, meta: Bytes, cx: &mut GeminioCx) {
    let core = &session.core;
    let open = match core.role {
        Role::Edge => Some(Open { name: Str::from(peer), meta, ..Open::default() }),
        _ => peer.parse().ok().map(|peer| Open { peer, meta, ..Open::default() }),
    };
    let is_valid = |open: &Open| open.name.len() <= limits::NAME_MAX && open.meta.len() <= limits::META_MAX;
    let is_open = matches!(core.state, State::Open | State::Retiring(_));
    let Some(open) = open.filter(is_valid).filter(|_| is_open) else {
        // The reference's clients expect that a stream is accepted and closed at once.
        return cx.conn.dismiss(cx.now(), at);
    };
    let (handle, end) = session.protocol.streams.channel();
    session.protocol.streams.open.insert(at, handle);
    let (near, far) = Stream::pair();
    let (router, caller) = (core.ctx.router.clone(), core.stream_caller(true));
    tasks::spawn(tasks::Kind::Stream, streams::serve(router, caller, far));
    let link = SessionLink::new(session.protocol.handle.clone(), end);
    tasks::spawn(tasks::Kind::Stream, stream_task::opened(link, at, near, open));
}

/// Another session opens a stream to the peer.
pub(super) fn open(session: &mut GeminioSession, reply: StreamReply) {
    let (handle, end) = session.protocol.streams.channel();
    let (near, far) = Stream::pair();
    let link = SessionLink::new(session.protocol.handle.clone(), end);
    tasks::spawn(tasks::Kind::Stream, stream_task::offered(link, near, handle));
    let _ = reply.send(Ok(far));
}

/// The peer sends a packet on a stream.
pub(super) fn received(
    session: &mut GeminioSession,
    at: u64,
    id: u64,
    word: StreamPacket,
    cx: &mut GeminioCx,
) {
    let Some(handle) = session.protocol.streams.open.get(&at) else { return };
    let load = handle.waiting.load(weight(&word));
    // If the task is gone, the packet is dropped and counts no more.
    let _ = handle.events.send(StreamEvent::Packet(id, Box::new(word), load));
    session.protocol.streams.pause_if_crowded(session.core.role, at, cx);
}

/// The peer has closed a stream.
pub(super) fn ended(session: &mut GeminioSession, at: u64, cx: &mut GeminioCx) {
    let streams = &mut session.protocol.streams;
    if let Some(handle) = streams.open.remove(&at) {
        let _ = handle.events.send(StreamEvent::End);
        streams.note_closed(handle.waiting);
    }
    streams.resume_if_roomy(cx);
}

/// Executes a command of a stream's task.
pub(super) fn execute(session: &mut GeminioSession, command: StreamCommand, cx: &mut GeminioCx) {
    let now = cx.now();
    match command {
        StreamCommand::Offer { peer, meta, handle } => {
            // A handle that is dropped ends its task.
            if session.core.state == State::Open {
                match cx.conn.offer(now, peer, meta) {
                    Ok(at) => drop(session.protocol.streams.open.insert(at, handle)),
                    Err(code) => log_not_offered(session, code, now),
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
        StreamCommand::Room => session.protocol.streams.resume_if_roomy(cx),
    }
}

/// The client that opened the stream only sees it accepted and closed, so the log has the reason.
fn log_not_offered(session: &GeminioSession, code: Code, now: Instant) {
    let core = &session.core;
    let port = Port::of(core.role);
    if let Some(more) = core.ctx.telemetry.log.first(port, code, now) {
        let (no, id, open) = (core.no, core.id, session.protocol.streams.open.len());
        warn!(port = port.name(), session = no, id, open, %code, more, "cannot offer a stream to a geminio peer");
    }
}

/// Closes the stream because of which the connection has not been read for too long.
pub(super) fn expire(session: &mut GeminioSession, now: Instant, cx: &mut GeminioCx) {
    let streams = &mut session.protocol.streams;
    streams.resume_if_roomy(cx);
    let Some(pause) = &streams.paused else { return };
    if now < pause.until {
        return cx.wake_at(pause.until);
    }
    let slowest = streams.take_slowest(pause.stream);
    streams.paused = None;
    cx.pause(false);
    let Some((at, waiting)) = slowest else { return };
    if let Some(at) = at {
        cx.conn.dismiss(now, at);
    }
    let bytes = waiting.bytes();
    waiting.abort();
    let core = &session.core;
    core.ctx.telemetry.metrics.increment(dictionary::SLOW_STREAMS);
    let port = Port::of(core.role);
    if let Some(more) = core.ctx.telemetry.log.first(port, Code::TIMEOUT, now) {
        let (port, no, id) = (port.name(), core.no, core.id);
        warn!(
            port,
            session = no,
            id,
            bytes,
            more,
            "closed a stream whose receiver is slower than its sender"
        );
    }
}
