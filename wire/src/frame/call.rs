//! Calls and messages (PROTOCOL 4 and 5).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::hello::{get_ms, put_ms};
use crate::code::Code;
use crate::codec::{DecodeError, Reader, put_bytes, put_text};
use crate::text::Str;

/// A request that expects a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Chosen by the sender; not in use by another call or message of the same sender.
    pub id: u64,
    /// Time left for the answer.
    pub deadline: Duration,
    /// Towards the gateway: the edge to call, or 0 if the caller is an edge. From the gateway: the caller's id.
    pub peer: u64,
    /// The method to call.
    pub method: Str,
    /// The payload.
    pub body: Bytes,
}

impl Call {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        put_request(out, self.id, self.deadline, self.peer, &self.method);
        self.body
    }

    pub(super) fn get(from: &mut Reader, body: Bytes) -> Result<Self, DecodeError> {
        Ok(Call { id: from.u64()?, deadline: get_ms(from)?, peer: from.u64()?, method: from.name()?, body })
    }
}

/// A request that expects an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// As [`Call::id`].
    pub id: u64,
    /// Time left for the acknowledgement.
    pub deadline: Duration,
    /// As [`Call::peer`].
    pub peer: u64,
    /// The topic of the message.
    pub topic: Str,
    /// The payload.
    pub body: Bytes,
}

impl Message {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        put_request(out, self.id, self.deadline, self.peer, &self.topic);
        self.body
    }

    pub(super) fn get(from: &mut Reader, body: Bytes) -> Result<Self, DecodeError> {
        Ok(Message { id: from.u64()?, deadline: get_ms(from)?, peer: from.u64()?, topic: from.name()?, body })
    }
}

fn put_request(out: &mut BytesMut, id: u64, deadline: Duration, peer: u64, name: &Str) {
    out.put_u64(id);
    put_ms(out, deadline);
    out.put_u64(peer);
    put_bytes(out, name.as_bytes());
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The call's id.
    pub id: u64,
    /// The payload.
    pub body: Bytes,
}

/// Whether the receiver's handler ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// It did not run: the request may be sent again.
    NotStarted,
    /// It may have run.
    Unknown,
    /// It ran; the error is its own.
    Completed,
}

/// The failure of a call or message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The call's or message's id.
    pub id: u64,
    /// The reason.
    pub code: Code,
    /// Whether the handler ran.
    pub ran: Execution,
    /// The reason in one line, for logs and people.
    pub text: String,
}

impl CallError {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        out.put_u64(self.id);
        out.put_u32(self.code.0);
        out.put_u8(match self.ran {
            Execution::NotStarted => 0,
            Execution::Unknown => 1,
            Execution::Completed => 2,
        });
        put_text(out, &self.text);
        Bytes::new()
    }

    pub(super) fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(CallError {
            id: from.u64()?,
            code: Code(from.u32()?),
            ran: match from.u8()? {
                0 => Execution::NotStarted,
                2 => Execution::Completed,
                // A value of a newer peer: assume nothing.
                _ => Execution::Unknown,
            },
            text: from.text()?,
        })
    }
}

/// Whether the receiver has taken a message over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The message's id.
    pub id: u64,
    /// OK, or why the receiver did not take it.
    pub code: Code,
    /// The reason in one line, for logs and people.
    pub text: String,
}

impl Ack {
    pub(super) fn put(self, out: &mut BytesMut) -> Bytes {
        out.put_u64(self.id);
        out.put_u32(self.code.0);
        put_text(out, &self.text);
        Bytes::new()
    }

    pub(super) fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Ack { id: from.u64()?, code: Code(from.u32()?), text: from.text()? })
    }
}
