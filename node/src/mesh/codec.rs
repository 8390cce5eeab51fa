//! The frames between nodes, carried by extension frames of the native protocol.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use limes_routing::{EdgeId, Incarnation, Revision};
use limes_wire::frame::{Execution, Extension};
use limes_wire::{Code, Str};

use crate::router::message::{Answer, Destination, Failure, Kind};
use crate::router::stream_header::{get_target, put_target};

const REQUEST: u8 = 0x81;
const ANSWER: u8 = 0x82;
const CANCEL: u8 = 0x83;
const TAKEOVER: u8 = 0x84;
const TAKEOVER_CONFIRMED: u8 = 0x85;
const PING: u8 = 0x86;
const PONG: u8 = 0x87;
/// A request with `custom` bytes.
const REQUEST_CUSTOM: u8 = 0x88;

/// One frame between nodes.
#[derive(Debug)]
pub(crate) enum MeshFrame {
    /// A request for a session of the receiving node.
    Request {
        /// The sender's number for it, unique on the link.
        id: u64,
        /// Call or message.
        kind: Kind,
        /// The session.
        destination: Destination,
        /// Shown to the receiver as the caller.
        caller: u64,
        /// Time until the deadline: the clocks of two nodes are not compared.
        remaining: Duration,
        /// Method or topic.
        name: Str,
        /// What accompanies the payload; as a rule nothing.
        custom: Bytes,
        /// The payload.
        body: Bytes,
    },
    /// A request has ended.
    Answer(u64, Answer),
    /// The caller no longer waits for the request.
    Cancel(u64),
    /// The edge has a newer session on another node: close those of lower incarnations.
    Takeover { id: u64, edge: EdgeId, incarnation: Incarnation, moving: bool },
    /// The takeover with this number has been processed.
    TakeoverConfirmed(u64),
    /// Asks for a [`MeshFrame::Pong`]. Whether the sender has the quorum.
    Ping(bool),
    /// Answers a ping. Whether the sender has the quorum.
    Pong(bool),
}

impl MeshFrame {
    /// Encodes it as an extension frame.
    pub(crate) fn encode(self) -> Extension {
        let mut head = BytesMut::with_capacity(64);
        let mut body = Bytes::new();
        let kind = match self {
            MeshFrame::Request { id, kind, destination, caller, remaining, name, custom, body: payload } => {
                head.put_u64(id);
                head.put_u8(u8::from(kind == Kind::Message));
                put_target(&mut head, destination);
                head.put_u64(caller);
                head.put_u32(u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX).max(1));
                if custom.is_empty() {
                    head.put_slice(name.as_bytes());
                    body = payload;
                    REQUEST
                } else {
                    head.put_u32(custom.len() as u32);
                    head.put_slice(name.as_bytes());
                    body = [&custom[..], &payload[..]].concat().into();
                    REQUEST_CUSTOM
                }
            }
            MeshFrame::Answer(id, answer) => {
                head.put_u64(id);
                body = put_answer(&mut head, answer);
                ANSWER
            }
            MeshFrame::Cancel(id) => {
                head.put_u64(id);
                CANCEL
            }
            MeshFrame::Takeover { id, edge, incarnation, moving } => {
                head.put_u64(id);
                put_target(&mut head, Destination::Edge(edge, incarnation));
                head.put_u8(moving.into());
                TAKEOVER
            }
            MeshFrame::TakeoverConfirmed(id) => {
                head.put_u64(id);
                TAKEOVER_CONFIRMED
            }
            MeshFrame::Ping(quorum) => {
                head.put_u8(quorum.into());
                PING
            }
            MeshFrame::Pong(quorum) => {
                head.put_u8(quorum.into());
                PONG
            }
        };
        Extension { kind, flags: 0, head: head.freeze(), body }
    }

    /// Decodes an extension frame; `None`: it is no frame between nodes.
    pub(crate) fn decode(frame: Extension) -> Option<MeshFrame> {
        let Extension { kind, mut head, mut body, .. } = frame;
        match kind {
            PING => return Some(MeshFrame::Ping(head.first() == Some(&1))),
            PONG => return Some(MeshFrame::Pong(head.first() == Some(&1))),
            _ => {}
        }
        let id = head.try_get_u64().ok()?;
        Some(match kind {
            REQUEST | REQUEST_CUSTOM => {
                let has_custom = kind == REQUEST_CUSTOM;
                let kind = if head.try_get_u8().ok()? == 1 { Kind::Message } else { Kind::Call };
                let destination = get_target(&mut head)?;
                let caller = head.try_get_u64().ok()?;
                let remaining = Duration::from_millis(head.try_get_u32().ok()?.into());
                let custom = if has_custom { head.try_get_u32().ok()? as usize } else { 0 };
                if custom > body.len() {
                    return None;
                }
                let custom = body.split_to(custom);
                let name = Str::try_from(head).ok()?;
                MeshFrame::Request { id, kind, destination, caller, remaining, name, custom, body }
            }
            ANSWER => MeshFrame::Answer(id, get_answer(&mut head, body)?),
            CANCEL => MeshFrame::Cancel(id),
            TAKEOVER => match get_target(&mut head)? {
                Destination::Edge(edge, incarnation) => {
                    let moving = head.try_get_u8().ok()? == 1;
                    MeshFrame::Takeover { id, edge, incarnation, moving }
                }
                Destination::Service(..) => return None,
            },
            TAKEOVER_CONFIRMED => MeshFrame::TakeoverConfirmed(id),
            _ => return None,
        })
    }
}

fn put_answer(head: &mut BytesMut, answer: Answer) -> Bytes {
    match answer {
        Answer::Reply(body) => {
            head.put_u8(0);
            body
        }
        Answer::Done => {
            head.put_u8(1);
            Bytes::new()
        }
        Answer::Failed(failure) => {
            head.put_u8(2);
            head.put_u32(failure.code.0);
            head.put_u8(match failure.ran {
                Execution::NotStarted => 0,
                Execution::Unknown => 1,
                Execution::Completed => 2,
            });
            // 0 on the wire: no revision.
            head.put_u64(failure.revision.map_or(0, |revision| revision.0));
            Bytes::from(failure.text)
        }
    }
}

fn get_answer(head: &mut Bytes, body: Bytes) -> Option<Answer> {
    Some(match head.try_get_u8().ok()? {
        0 => Answer::Reply(body),
        1 => Answer::Done,
        2 => Answer::Failed(Failure {
            code: Code(head.try_get_u32().ok()?),
            ran: match head.try_get_u8().ok()? {
                0 => Execution::NotStarted,
                2 => Execution::Completed,
                _ => Execution::Unknown,
            },
            revision: Some(head.try_get_u64().ok()?).filter(|revision| *revision != 0).map(Revision),
            text: String::from_utf8_lossy(&body).into_owned(),
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use limes_routing::{Epoch, ServiceId, SessionNo};

    use super::*;

    #[test]
    fn a_request_is_decoded_as_encoded() {
        let target = Destination::Service(ServiceId(3), SessionNo(9), Epoch(77));
        let frame = MeshFrame::Request {
            id: 5,
            kind: Kind::Message,
            destination: target,
            caller: 12,
            remaining: Duration::from_millis(250),
            name: Str::from_static("alarm"),
            custom: Bytes::from_static(b"beside"),
            body: Bytes::from_static(b"payload"),
        };
        let Some(MeshFrame::Request { id, kind, destination: read, caller, remaining, name, custom, body }) =
            MeshFrame::decode(frame.encode())
        else {
            panic!("not a request")
        };
        assert_eq!((id, kind, read, caller), (5, Kind::Message, target, 12));
        assert_eq!((remaining, &*name), (Duration::from_millis(250), "alarm"));
        assert_eq!((&custom[..], &body[..]), (&b"beside"[..], &b"payload"[..]));
    }

    #[test]
    fn a_truncated_head_is_refused() {
        let whole = MeshFrame::Answer(
            7,
            Answer::Failed(Failure { revision: Some(Revision(9)), ..Failure::not_run(Code::MOVED, "there") }),
        )
        .encode();
        for cut in 0..whole.head.len() {
            let short = Extension { head: whole.head.slice(..cut), ..whole.clone() };
            assert!(MeshFrame::decode(short).is_none(), "after {cut} bytes");
        }
    }
}
