//! Frames: one header of eight bytes, a head of small fields, and an opaque body (PROTOCOL 2).

mod call;
mod control;
mod header;
mod hello;
mod names;

pub use call::{Ack, Call, CallError, Execution, Message, Reply};
pub use control::{Extension, GoAway};
pub use header::{HEADER, Header};
pub use hello::{Hello, Role, VERSIONS, Welcome};
pub use names::{Done, Names};

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader};

/// One frame of the native protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of the side that dialled. Boxed, as the welcome: frames are moved often and should be small.
    Hello(Box<Hello>),
    /// The first frame of the side that accepted.
    Welcome(Box<Welcome>),
    /// Asks for a sign of life.
    Ping {
        /// Returned in the pong.
        nonce: u64,
    },
    /// Answers a ping.
    Pong {
        /// From the ping.
        nonce: u64,
    },
    /// Refuses the client before the welcome; announces the close after it.
    GoAway(GoAway),
    /// A request that expects a reply.
    Call(Call),
    /// The result of a call.
    Reply(Reply),
    /// The failure of a call or message.
    Error(CallError),
    /// The caller no longer waits.
    Cancel {
        /// The call's or message's id.
        id: u64,
    },
    /// A request that expects an acknowledgement.
    Message(Message),
    /// Whether the receiver has taken a message over.
    Ack(Ack),
    /// Offers methods.
    Register(Names),
    /// Stops offering methods.
    Withdraw(Names),
    /// Subscribes to topics.
    Subscribe(Names),
    /// Unsubscribes from topics.
    Unsubscribe(Names),
    /// Answers the four frames above.
    Done(Done),
    /// A frame that only nodes exchange.
    Extension(Extension),
}

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const WELCOME: u8 = 0x02;
pub(crate) const PING: u8 = 0x03;
pub(crate) const PONG: u8 = 0x04;
pub(crate) const GO_AWAY: u8 = 0x05;
pub(crate) const CALL: u8 = 0x10;
pub(crate) const REPLY: u8 = 0x11;
pub(crate) const ERROR: u8 = 0x12;
pub(crate) const CANCEL: u8 = 0x13;
pub(crate) const MESSAGE: u8 = 0x14;
pub(crate) const ACK: u8 = 0x15;
pub(crate) const REGISTER: u8 = 0x20;
pub(crate) const WITHDRAW: u8 = 0x21;
pub(crate) const SUBSCRIBE: u8 = 0x22;
pub(crate) const UNSUBSCRIBE: u8 = 0x23;
pub(crate) const DONE: u8 = 0x24;
/// The first type of the extension range.
pub(crate) const EXTENSION: u8 = 0x80;

impl Frame {
    /// The frame's name in logs and in PROTOCOL.md.
    pub fn name(&self) -> &'static str {
        match self {
            Frame::Hello(_) => "hello",
            Frame::Welcome(_) => "welcome",
            Frame::Ping { .. } => "ping",
            Frame::Pong { .. } => "pong",
            Frame::GoAway(_) => "go-away",
            Frame::Call(_) => "call",
            Frame::Reply(_) => "reply",
            Frame::Error(_) => "error",
            Frame::Cancel { .. } => "cancel",
            Frame::Message(_) => "message",
            Frame::Ack(_) => "ack",
            Frame::Register(_) => "register",
            Frame::Withdraw(_) => "withdraw",
            Frame::Subscribe(_) => "subscribe",
            Frame::Unsubscribe(_) => "unsubscribe",
            Frame::Done(_) => "done",
            Frame::Extension(_) => "extension",
        }
    }

    /// Appends header and head to `out` and returns the body, which is not copied.
    pub fn encode(self, out: &mut BytesMut) -> Bytes {
        let at = out.len();
        out.put_bytes(0, HEADER);
        let head_at = out.len();
        let (kind, flags, body) = self.put(out);
        let head = out.len() - head_at;
        let header = Header { kind, flags, head: head as u16, body: body.len() as u32 };
        out[at..head_at].copy_from_slice(&header.encode());
        body
    }

    fn put(self, out: &mut BytesMut) -> (u8, u8, Bytes) {
        match self {
            Frame::Hello(hello) => (HELLO, 0, hello.put(out)),
            Frame::Welcome(welcome) => (WELCOME, 0, welcome.put(out)),
            Frame::Ping { nonce } => (PING, 0, put_number(out, nonce)),
            Frame::Pong { nonce } => (PONG, 0, put_number(out, nonce)),
            Frame::GoAway(goaway) => (GO_AWAY, 0, goaway.put(out)),
            Frame::Call(call) => (CALL, 0, call.put(out)),
            Frame::Reply(Reply { id, body }) => {
                out.put_u64(id);
                (REPLY, 0, body)
            }
            Frame::Error(error) => (ERROR, 0, error.put(out)),
            Frame::Cancel { id } => (CANCEL, 0, put_number(out, id)),
            Frame::Message(message) => (MESSAGE, 0, message.put(out)),
            Frame::Ack(ack) => (ACK, 0, ack.put(out)),
            Frame::Register(names) => (REGISTER, 0, names.put(out)),
            Frame::Withdraw(names) => (WITHDRAW, 0, names.put(out)),
            Frame::Subscribe(names) => (SUBSCRIBE, 0, names.put(out)),
            Frame::Unsubscribe(names) => (UNSUBSCRIBE, 0, names.put(out)),
            Frame::Done(done) => (DONE, 0, done.put(out)),
            Frame::Extension(Extension { kind, flags, head, body }) => {
                out.put_slice(&head);
                (kind.max(EXTENSION), flags, body)
            }
        }
    }

    /// Reads a frame from its parts. `Ok(None)`: an unknown frame whose flags allow to ignore it.
    ///
    /// # Errors
    /// A field of the head is missing, too long or undefined, or the type is unknown and must not be ignored.
    pub fn decode(header: Header, head: Bytes, body: Bytes) -> Result<Option<Frame>, DecodeError> {
        if header.kind >= EXTENSION {
            let Header { kind, flags, .. } = header;
            return Ok(Some(Frame::Extension(Extension { kind, flags, head, body })));
        }
        let mut reader = Reader(head);
        let from = &mut reader;
        Ok(Some(match header.kind {
            HELLO => Frame::Hello(Box::new(Hello::get(from, body)?)),
            WELCOME => Frame::Welcome(Box::new(Welcome::get(from)?)),
            PING => Frame::Ping { nonce: from.u64()? },
            PONG => Frame::Pong { nonce: from.u64()? },
            GO_AWAY => Frame::GoAway(GoAway::get(from)?),
            CALL => Frame::Call(Call::get(from, body)?),
            REPLY => Frame::Reply(Reply { id: from.u64()?, body }),
            ERROR => Frame::Error(CallError::get(from)?),
            CANCEL => Frame::Cancel { id: from.u64()? },
            MESSAGE => Frame::Message(Message::get(from, body)?),
            ACK => Frame::Ack(Ack::get(from)?),
            REGISTER => Frame::Register(Names::get(from)?),
            WITHDRAW => Frame::Withdraw(Names::get(from)?),
            SUBSCRIBE => Frame::Subscribe(Names::get(from)?),
            UNSUBSCRIBE => Frame::Unsubscribe(Names::get(from)?),
            DONE => Frame::Done(Done::get(from)?),
            _ if header.is_ignorable() => return Ok(None),
            unknown => return Err(DecodeError::Unknown(unknown.into(), "a frame's type")),
        }))
    }
}

fn put_number(out: &mut BytesMut, number: u64) -> Bytes {
    out.put_u64(number);
    Bytes::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_is_cheap_to_move() {
        assert!(size_of::<Frame>() <= 112, "{} bytes", size_of::<Frame>());
    }
}
