//! The JSON parts of the bodies.

use bytes::{Bytes, BytesMut};
use serde::de::{IgnoredAny, MapAccess};

use super::json::{self, Object, Writer};
use super::malformed::Malformed;
use super::time::Time;

/// In Conn, ConnAck and DisConnAck.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnData {
    /// The peer's description of itself.
    pub meta: Bytes,
    /// The error; empty for none.
    pub error: String,
}

/// In Session, SessionAck, Dismiss, DismissAck and RegisterAck.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionData {
    /// Opaque data for the receiver of a stream.
    pub meta: Bytes,
    /// The error; empty for none.
    pub error: String,
    /// The peer to reach.
    pub peer: String,
}

/// In Request, Response, Message and MessageAck.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageData {
    /// The method.
    pub key: Bytes,
    /// The payload.
    pub value: Bytes,
    /// The topic of a message.
    pub topic: String,
    /// Data in addition to the payload; never in an answer.
    pub custom: Bytes,
    /// The error; empty for none.
    pub error: String,
    /// In nanoseconds; the known clients do not use it.
    pub timeout: i64,
    /// The deadline of the option of one call.
    pub deadline: Option<Time>,
    /// The deadline of the caller's context.
    pub context: Option<Time>,
}

impl MessageData {
    /// An answer with an error.
    pub fn failed(error: impl Into<String>) -> Self {
        MessageData { error: error.into(), ..MessageData::default() }
    }

    /// The earlier of the two deadlines.
    pub fn until(&self) -> Option<Time> {
        match (self.deadline, self.context) {
            (Some(deadline), Some(context)) => Some(deadline.min(context)),
            (deadline, context) => deadline.or(context),
        }
    }
}

/// The caller's context.
#[derive(Default)]
struct Context {
    deadline: Option<Time>,
}

impl Object for Context {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "deadline" => self.deadline = json::time(map)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Object for ConnData {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "meta" => self.meta = json::bytes(map)?,
            "error" => self.error = json::text(map)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Object for SessionData {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "meta" => self.meta = json::bytes(map)?,
            "error" => self.error = json::text(map)?,
            "peer" => self.peer = json::text(map)?,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl Object for MessageData {
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "key" => self.key = json::bytes(map)?,
            "value" => self.value = json::bytes(map)?,
            "topic" => self.topic = json::text(map)?,
            "custom" => self.custom = json::bytes(map)?,
            "error" => self.error = json::text(map)?,
            "timeout" => self.timeout = map.next_value::<Option<i64>>()?.unwrap_or_default(),
            "deadline" => self.deadline = json::time(map)?,
            "context" => self.context = json::object::<Context, A>(map)?.deadline,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

macro_rules! read {
    ($($name:ident)*) => {$(
        impl $name {
            pub(super) fn get(json: &[u8]) -> Result<Self, Malformed> {
                json::read(json)
            }
        }
    )*};
}

read! { ConnData SessionData MessageData }

impl ConnData {
    pub(super) fn put(&self, out: &mut BytesMut) {
        Writer::new(out).bytes("meta", &self.meta).text("error", &self.error).end();
    }
}

impl SessionData {
    pub(super) fn put(&self, out: &mut BytesMut) {
        let mut object = Writer::new(out);
        object.bytes("meta", &self.meta).text("error", &self.error).text("peer", &self.peer).end();
    }
}

impl MessageData {
    pub(super) fn put(&self, out: &mut BytesMut) {
        Writer::new(out)
            .bytes("key", &self.key)
            .bytes("value", &self.value)
            .text("topic", &self.topic)
            .bytes("custom", &self.custom)
            .text("error", &self.error)
            .number("timeout", self.timeout)
            .time("deadline", self.deadline)
            .object("context", |context| {
                context.time("deadline", self.context);
            })
            .end();
    }
}
