//! One entry of the log: the events that a node proposed together.

use bytes::{Bytes, BytesMut};

use crate::codec::{DecodeError, Field, get_all, records};
use crate::event::{Event, LEVEL};
use crate::id::{Epoch, NodeId};

/// The version of the encoding.
const VERSION: u8 = 1;

/// The proposer of a batch and the batch's number: each batch is applied once and in order (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The proposing node.
    pub node: NodeId,
    /// The epoch of the node.
    pub epoch: Epoch,
    /// The number of the batch, counted from 1 in each epoch.
    pub number: u64,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// `None` for what the cluster itself proposes (members, node up and down).
    pub origin: Option<Origin>,
    /// The proposer's wall clock, in milliseconds since 1970: for people, never compared.
    pub time_ms: u64,
    /// The events, applied in order.
    pub events: Vec<Event>,
}

records! {
    Origin { node, epoch, number }
    Batch { origin, time_ms, events }
}

impl Batch {
    /// The batch in its form on the wire and in the log.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.events.len() * 64);
        VERSION.put(&mut out);
        self.put(&mut out);
        out.freeze()
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// The bytes are damaged, or written by newer software.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        match u8::get(&mut bytes)? {
            VERSION => get_all(bytes).and_then(Batch::check_level),
            newer => Err(DecodeError::Unknown("batch version", newer.into())),
        }
    }

    /// Refuses a cluster level that this software does not support: the node must stop.
    fn check_level(self) -> Result<Self, DecodeError> {
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
