//! The history: a searchable record of the events that this member has applied, by edge, service, node and
//! time, bounded by age and bytes.
//!
//! The history is kept in sled, because it may be lost or rebuilt: each member has its own, nothing depends
//! on it, and what cannot be written in time is left out and counted. One thread owns the database. It
//! gathers batches into chunks. Each chunk begins with marks of the subjects in it, so that a search reads
//! few chunks.
//!
//! ```text
//! apply -> History (handle) -> queue -> database thread -> chunk -> sled
//! ```

mod chunk;
mod database;
mod handle;
mod model;
mod subject;

pub use handle::History;
pub use model::{Filter, HistoryError, Limits, Record};
