//! The checked segment log: votes and entries, durable before they are acknowledged (R9).
//!
//! One stream of records runs through numbered files. The one writer thread takes what waits, gives
//! it the next *group* number, writes it with one call and syncs it with one fdatasync, then writes
//! the high-water mark and acknowledges. So group n+1 is begun only when group n is durable, which
//! decides what a bad record means when the log is opened:
//!
//! - It lies before the high-water mark, or a valid record of a later group lies behind it: bytes
//!   that were acknowledged have changed. That is **damage**; the log is refused with file, offset
//!   and reason, and the member must join again under a new number.
//! - Else it belongs to the last group, which was never acknowledged: a **torn tail**. Everything
//!   from it on is cleared.
//!
//! The mark is written after each sync and not itself synced: after a power loss it may be older
//! than the log, never newer, and is a lower bound. If it is gone, only a log whose end is perfect is
//! taken. A file cut below the mark, a gap in the numbers of the files, or entries that are not
//! consecutive from the purge marker on, are damage as well. Each file begins with the vote, the
//! markers and the newest index of its time, so that older files can be unlinked and a missing one is
//! missed.
//!
//! An error of a write or a sync is final for the process: nobody knows what the disk holds then.
//! What lies behind the mark is written once more when the log is opened, for after a failed sync the
//! kernel shows bytes that the disk may never have got.

pub mod files;
mod open;
mod record;
mod segment;
mod store;
mod writer;

pub use open::OpenError;
pub use store::SegmentLog;
