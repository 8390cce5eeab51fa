//! The packets of a stream, the default one included.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::data::{MessageData, SessionData};
use super::malformed::Malformed;

const MESSAGE: u8 = 0x51;
const MESSAGE_ACK: u8 = 0x52;
const DATA: u8 = 0x61;
const REQUEST: u8 = 0x71;
const RESPONSE: u8 = 0x72;
const CANCEL: u8 = 0x73;
const REGISTER: u8 = 0x81;
const REGISTER_ACK: u8 = 0x82;

/// The content of a stream's packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamPacket {
    /// A message that expects an acknowledgement.
    Message(MessageData),
    /// The application has finished a message.
    MessageAck(MessageData),
    /// Raw bytes.
    Data(Bytes),
    /// A call.
    Request(MessageData),
    /// The result of a call.
    Response(MessageData),
    /// The caller no longer waits: 1 if it cancelled, 2 if the deadline passed.
    Cancel(u16),
    /// The sender offers a method.
    Register(Bytes),
    /// The method is registered, unless there is an error; the known clients ignore it.
    RegisterAck(String),
}

impl StreamPacket {
    /// The packet's type.
    pub fn kind(&self) -> u8 {
        match self {
            StreamPacket::Message(_) => MESSAGE,
            StreamPacket::MessageAck(_) => MESSAGE_ACK,
            StreamPacket::Data(_) => DATA,
            StreamPacket::Request(_) => REQUEST,
            StreamPacket::Response(_) => RESPONSE,
            StreamPacket::Cancel(_) => CANCEL,
            StreamPacket::Register(_) => REGISTER,
            StreamPacket::RegisterAck(_) => REGISTER_ACK,
        }
    }

    /// Whether a type is one of these.
    pub fn is_kind(kind: u8) -> bool {
        matches!(kind, MESSAGE | MESSAGE_ACK | DATA | REQUEST | RESPONSE | CANCEL | REGISTER | REGISTER_ACK)
    }

    /// Reads what follows the stream id.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(kind: u8, mut rest: Bytes) -> Result<StreamPacket, Malformed> {
        Ok(match kind {
            MESSAGE => StreamPacket::Message(MessageData::get(&rest)?),
            MESSAGE_ACK => StreamPacket::MessageAck(MessageData::get(&rest)?),
            DATA => StreamPacket::Data(rest),
            REQUEST => StreamPacket::Request(MessageData::get(&rest)?),
            RESPONSE => {
                StreamPacket::Response(MessageData { custom: Bytes::new(), ..MessageData::get(&rest)? })
            }
            CANCEL => {
                let len = rest.len();
                StreamPacket::Cancel(rest.try_get_u16().map_err(|_| Malformed::Short(len))?)
            }
            REGISTER => StreamPacket::Register(rest),
            REGISTER_ACK => StreamPacket::RegisterAck(SessionData::get(&rest)?.error),
            unknown => return Err(Malformed::Unknown(unknown)),
        })
    }

    /// Appends what follows the stream id; returns a payload that should not be copied.
    pub fn encode(&self, out: &mut BytesMut) -> Bytes {
        match self {
            StreamPacket::Message(data) | StreamPacket::MessageAck(data) | StreamPacket::Request(data) => {
                data.put(out)
            }
            StreamPacket::Response(data) if data.custom.is_empty() => data.put(out),
            StreamPacket::Response(data) => MessageData { custom: Bytes::new(), ..data.clone() }.put(out),
            StreamPacket::Data(bytes) => return bytes.clone(),
            StreamPacket::Cancel(reason) => out.put_u16(*reason),
            StreamPacket::Register(method) => out.put_slice(method),
            StreamPacket::RegisterAck(error) => {
                SessionData { error: error.clone(), ..SessionData::default() }.put(out);
            }
        }
        Bytes::new()
    }
}
