//! Packets: a header, and a body of one of eighteen types.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::data::{ConnData, SessionData};
use super::header::{BODY_MAX, HEADER, Header, VERSION};
use super::malformed::Malformed;
use super::stream_packet::StreamPacket;

pub(super) const CONN: u8 = 0x01;
const CONN_ACK: u8 = 0x02;
const DIS_CONN: u8 = 0x11;
const DIS_CONN_ACK: u8 = 0x12;
const HEARTBEAT: u8 = 0x21;
const HEARTBEAT_ACK: u8 = 0x22;
const SESSION: u8 = 0x31;
const SESSION_ACK: u8 = 0x32;
const DISMISS: u8 = 0x41;
const DISMISS_ACK: u8 = 0x42;

/// In Conn's flags: assign an id; the one in the packet is only a request.
const ACQUIRE_CLIENT: u8 = 0x08;
/// In Session's second byte: assign a stream id.
const ACQUIRE_SESSION: u8 = 0x10;

/// The first bytes of a connection of this protocol: version 1, a Conn packet.
pub const MAGIC: [u8; 2] = [VERSION, CONN];
/// The stream that is open from the start: calls and messages of the connection itself.
pub const DEFAULT_SESSION: u64 = 1;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Chosen by the sender; an answer repeats it.
    pub id: u64,
    /// The content.
    pub body: Body,
}

/// The content of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The first packet of the client.
    Conn {
        /// Assign an id; `client` is only a request.
        acquire: bool,
        /// The heartbeat interval as a code of 0 to 3: 5 s times 4 to the power of the code.
        heartbeat: u8,
        /// The requested id; 0 for none.
        client: u64,
        /// The meta.
        data: ConnData,
    },
    /// The answer. Clients evaluate the error's text and ignore `refused`.
    ConnAck {
        /// Whether `data` has an error.
        refused: bool,
        /// The assigned id.
        client: u64,
        /// The error.
        data: ConnData,
    },
    /// Closes the connection.
    DisConn,
    /// Answers DisConn.
    DisConnAck(ConnData),
    /// Asks for a sign of life.
    Heartbeat,
    /// Answers Heartbeat.
    HeartbeatAck,
    /// Opens a stream.
    Session {
        /// Assign a stream id; `negotiate` only identifies this request.
        acquire: bool,
        /// The stream id, or the id of this request.
        negotiate: u64,
        /// The peer and the meta.
        data: SessionData,
    },
    /// Answers Session.
    SessionAck {
        /// From the Session packet.
        negotiate: u64,
        /// The stream id.
        session: u64,
        /// The known clients ignore an error.
        data: SessionData,
    },
    /// Closes a stream.
    Dismiss {
        /// The stream.
        session: u64,
        /// Usually empty.
        data: SessionData,
    },
    /// Answers Dismiss.
    DismissAck {
        /// The stream.
        session: u64,
        /// Usually empty.
        data: SessionData,
    },
    /// A packet of a stream: its id and content.
    Stream(u64, StreamPacket),
}

impl Body {
    fn kind(&self) -> u8 {
        match self {
            Body::Conn { .. } => CONN,
            Body::ConnAck { .. } => CONN_ACK,
            Body::DisConn => DIS_CONN,
            Body::DisConnAck(_) => DIS_CONN_ACK,
            Body::Heartbeat => HEARTBEAT,
            Body::HeartbeatAck => HEARTBEAT_ACK,
            Body::Session { .. } => SESSION,
            Body::SessionAck { .. } => SESSION_ACK,
            Body::Dismiss { .. } => DISMISS,
            Body::DismissAck { .. } => DISMISS_ACK,
            Body::Stream(_, packet) => packet.kind(),
        }
    }

    /// Appends the body; returns a payload that should not be copied.
    fn put(&self, out: &mut BytesMut) -> Bytes {
        match self {
            Body::Conn { acquire, heartbeat, client, data } => {
                out.put_u8(if *acquire { ACQUIRE_CLIENT } else { 0 } | (heartbeat & 3) << 4);
                out.put_u8(0);
                out.put_u64(*client);
                data.put(out);
            }
            Body::ConnAck { refused, client, data } => {
                out.put_u8(u8::from(*refused));
                out.put_u64(*client);
                data.put(out);
            }
            Body::DisConnAck(data) => {
                out.put_u8(u8::from(!data.error.is_empty()));
                data.put(out);
            }
            Body::DisConn | Body::Heartbeat | Body::HeartbeatAck => {}
            Body::Session { acquire, negotiate, data } => {
                out.put_u8(0);
                out.put_u8(if *acquire { ACQUIRE_SESSION } else { 0 });
                out.put_u64(*negotiate);
                data.put(out);
            }
            Body::SessionAck { negotiate, session, data } => {
                out.put_u16(0);
                out.put_u64(*negotiate);
                out.put_u64(*session);
                data.put(out);
            }
            Body::Dismiss { session, data } | Body::DismissAck { session, data } => {
                out.put_u64(*session);
                data.put(out);
            }
            Body::Stream(session, packet) => {
                out.put_u64(*session);
                return packet.encode(out);
            }
        }
        Bytes::new()
    }

    fn get(kind: u8, mut body: Bytes) -> Result<Body, Malformed> {
        let len = body.len();
        let fixed = match kind {
            CONN => 10,
            CONN_ACK => 9,
            DIS_CONN_ACK => 1,
            SESSION => 10,
            SESSION_ACK => 18,
            DISMISS | DISMISS_ACK => 8,
            // A body of these is ignored.
            DIS_CONN => return Ok(Body::DisConn),
            HEARTBEAT => return Ok(Body::Heartbeat),
            HEARTBEAT_ACK => return Ok(Body::HeartbeatAck),
            kind if StreamPacket::is_kind(kind) => 8,
            unknown => return Err(Malformed::Unknown(unknown)),
        };
        if len < fixed {
            return Err(Malformed::Short(len));
        }
        Ok(match kind {
            CONN => {
                let flags = body.get_u8();
                body.advance(1);
                let (acquire, heartbeat) = (flags & ACQUIRE_CLIENT != 0, flags >> 4 & 3);
                Body::Conn { acquire, heartbeat, client: body.get_u64(), data: ConnData::get(&body)? }
            }
            CONN_ACK => {
                let refused = body.get_u8() != 0;
                Body::ConnAck { refused, client: body.get_u64(), data: ConnData::get(&body)? }
            }
            DIS_CONN_ACK => {
                body.advance(1);
                Body::DisConnAck(ConnData::get(&body)?)
            }
            SESSION => {
                body.advance(1);
                let acquire = body.get_u8() & ACQUIRE_SESSION != 0;
                Body::Session { acquire, negotiate: body.get_u64(), data: SessionData::get(&body)? }
            }
            SESSION_ACK => {
                body.advance(2);
                let (negotiate, session) = (body.get_u64(), body.get_u64());
                Body::SessionAck { negotiate, session, data: SessionData::get(&body)? }
            }
            DISMISS => Body::Dismiss { session: body.get_u64(), data: SessionData::get(&body)? },
            DISMISS_ACK => Body::DismissAck { session: body.get_u64(), data: SessionData::get(&body)? },
            kind => Body::Stream(body.get_u64(), StreamPacket::decode(kind, body)?),
        })
    }
}

impl Packet {
    /// Appends header and body, except for a payload that should not be copied: that is returned and must follow.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`]: the receiver would close the connection. Nothing was appended.
    pub fn encode(&self, out: &mut BytesMut) -> Result<Bytes, Malformed> {
        let at = out.len();
        out.put_bytes(0, HEADER);
        let payload = self.body.put(out);
        let len = out.len() - at - HEADER + payload.len();
        if len > BODY_MAX {
            out.truncate(at);
            return Err(Malformed::TooLarge(len, BODY_MAX));
        }
        let header = Header { kind: self.body.kind(), id: self.id, len };
        out[at..at + HEADER].copy_from_slice(&header.encode());
        Ok(payload)
    }

    /// Reads a packet from its parts. Raw bytes are a slice of `body`, everything else is copied.
    ///
    /// # Errors
    /// [`Malformed`]: the connection must be closed, because what follows cannot be trusted.
    pub fn decode(header: Header, body: Bytes) -> Result<Packet, Malformed> {
        if body.len() > BODY_MAX {
            return Err(Malformed::TooLarge(body.len(), BODY_MAX));
        }
        Ok(Packet { id: header.id, body: Body::get(header.kind, body)? })
    }
}
