//! The records inside one yamux stream (PROTOCOL 7).
//!
//! A record is a kind, a 32-bit length and its content. Yamux provides order and credit; the records add what it lacks:
//! an explicit end with the number of bytes before it, and a reset with its reason.

mod record;
mod state;

pub use record::{DATA_HEAD, Open, RECORD_HEAD, Record, RecordHead};
pub use state::{Illegal, Input, State};
