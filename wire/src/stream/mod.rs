//! Streams: the records inside one yamux stream (PROTOCOL 7 of the table of contents: "Streams").
//!
//! A record is a kind, a 32-bit length and so many bytes. Yamux orders them and gives credit; the
//! records say what yamux's crate cannot: an end that is meant, with the number of bytes before it,
//! and a reset with its reason.

mod record;
mod state;

pub use record::{DATA_HEAD, Open, RECORD_HEAD, Record, RecordHead};
pub use state::{Illegal, Input, State};
