//! The first record of a stream between two nodes: an OPEN whose meta carries the target as well.

use bytes::{Buf, BufMut, BytesMut};
use limes_routing::{EdgeId, Epoch, Incarnation, Position, Revision, ServiceId, SessionNo};
use limes_wire::driver::StreamError;
use limes_wire::stream::Open;

use super::message::Destination;

/// What the receiving node needs beside the OPEN.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamTarget {
    /// The receiving session.
    pub(crate) destination: Destination,
    /// Shown to the receiver as the caller.
    pub(crate) caller: u64,
    /// As [`crate::router::streams::Caller::tunnel`].
    pub(crate) tunnel: bool,
}

impl StreamTarget {
    /// Wraps an OPEN for the link to another node.
    pub(crate) fn into_open(self, open: &Open) -> Open {
        let mut meta = BytesMut::with_capacity(40 + open.meta.len());
        put_target(&mut meta, self.destination);
        meta.put_u64(self.caller);
        meta.put_u8(u8::from(self.tunnel));
        meta.put_slice(&open.meta);
        Open { meta: meta.freeze(), ..open.clone() }
    }

    /// Unwraps it; `None` if it carries no target.
    pub(crate) fn from_open(hop: Open) -> Option<(StreamTarget, Open)> {
        let mut meta = hop.meta.clone();
        let destination = get_target(&mut meta)?;
        let caller = meta.try_get_u64().ok()?;
        let tunnel = meta.try_get_u8().ok()? != 0;
        Some((StreamTarget { destination, caller, tunnel }, Open { meta, ..hop }))
    }

    /// The text of a MOVED reset: a revision at which the tables have the new home.
    pub(crate) fn moved_text(revision: Revision) -> String {
        revision.0.to_string()
    }

    /// Reads [`StreamTarget::moved_text`] back; `None`: it names no revision.
    pub(crate) fn revision(error: &StreamError) -> Option<Revision> {
        error.text().parse().ok().filter(|revision| *revision != 0).map(Revision)
    }
}

/// Writes a destination: a tag and three numbers.
pub(crate) fn put_target(out: &mut impl BufMut, target: Destination) {
    match target {
        Destination::Edge(edge, Incarnation(position)) => {
            out.put_u8(0);
            out.put_u64(edge.0);
            out.put_u64(position.revision.0);
            out.put_u64(u64::from(position.ordinal));
        }
        Destination::Service(service, session, epoch) => {
            out.put_u8(1);
            out.put_u64(service.0);
            out.put_u64(session.0);
            out.put_u64(epoch.0);
        }
    }
}

/// The inverse of [`put_target`].
pub(crate) fn get_target(from: &mut impl Buf) -> Option<Destination> {
    let tag = from.try_get_u8().ok()?;
    let id = from.try_get_u64().ok()?;
    let second = from.try_get_u64().ok()?;
    let third = from.try_get_u64().ok()?;
    match tag {
        0 => {
            let ordinal = u32::try_from(third).ok()?;
            let position = Position { revision: Revision(second), ordinal };
            Some(Destination::Edge(EdgeId(id), Incarnation(position)))
        }
        1 => Some(Destination::Service(ServiceId(id), SessionNo(second), Epoch(third))),
        _ => None,
    }
}
