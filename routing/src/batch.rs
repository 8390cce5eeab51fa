//! One entry of the log: the events that a node proposed together.

use bytes::{Bytes, BytesMut};

use crate::codec::{DecodeError, Field, get_all, records};
use crate::event::{Event, LEVEL};
use crate::id::{Epoch, NodeId};

/// The version of the encoding.
const VERSION: u8 = 1;

/// Who proposed a batch, and its number: each is applied once and in order (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Counted from 1 in each epoch.
    pub number: u64,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Without origin for what the cluster itself proposes (members, node up and down).
    pub origin: Option<Origin>,
    /// The proposer's wall clock, in milliseconds since 1970: data for people, never compared.
    pub time_ms: u64,
    /// Applied in order.
    pub events: Vec<Event>,
}

records! {
    Origin { node, epoch, number }
    Batch { origin, time_ms, events }
}

impl Batch {
    /// The batch on the wire and in the log.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.events.len() * 64);
        VERSION.put(&mut out);
        self.put(&mut out);
        out.freeze()
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// Damage, or the work of newer software.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        match u8::get(&mut bytes)? {
            VERSION => get_all(bytes).and_then(Batch::known),
            newer => Err(DecodeError::Unknown("batch version", newer.into())),
        }
    }

    /// At a level that this software cannot work at it must not go on.
    fn known(self) -> Result<Self, DecodeError> {
        let level = |event: &Event| match event {
            Event::LevelRaised { level } if *level > LEVEL => Some(*level),
            _ => None,
        };
        match self.events.iter().find_map(level) {
            Some(level) => Err(DecodeError::Unknown("cluster level", level)),
            None => Ok(self),
        }
    }
}
