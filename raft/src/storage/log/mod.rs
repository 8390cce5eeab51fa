//! The checked segment log: votes and entries, durable before they are acknowledged (R9).
//!
//! The log is one stream of records in numbered segment files. One writer thread takes the records that
//! wait, gives them the next *group* number, writes them with one call, syncs with one fdatasync, writes the
//! high-water mark, and acknowledges. Group n+1 begins only when group n is durable. That decides what a bad
//! record means when the log is opened:
//!
//! - It lies before the high-water mark, or a valid record of a later group lies behind it. Then
//!   acknowledged bytes have changed. This is **damage**: the log is refused with file, offset and reason,
//!   and the member must join again under a new number.
//! - Otherwise it belongs to the last group, which was never acknowledged. This is a **torn tail**:
//!   everything from that record on is cleared.
//!
//! The mark is written after each sync and not synced itself. After a power loss it may be older than the
//! log, never newer, so it is a lower bound. Without a mark, only a log with a perfect end is accepted. A
//! file shorter than the mark, a gap in the file numbers, and entries that do not follow the purge marker
//! without a gap are damage as well. Each file begins with a header record that holds the vote, the markers
//! and the newest index at that time. So older files can be removed, and a missing file is detected.
//!
//! A failed write or sync is final for the process, because the content of the disk is unknown then. The
//! bytes behind the mark are written once more when the log is opened: after a failed sync the kernel shows
//! bytes that may never have reached the disk.
//!
//! ```text
//! openraft -> SegmentLog (store) -> State (state): index, cache
//!                |                       | records, in log order
//!                |                       v
//!                +-- open, record    Writer thread (writer) -> segment -> files -> disk
//! ```

pub mod files;
mod open;
mod record;
mod segment;
mod state;
mod store;
mod writer;

pub use open::OpenError;
pub use store::SegmentLog;
