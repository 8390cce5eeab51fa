//! What a connection's streams have waiting for their receivers, and for how long the connection stands
//! still for their sake: the dialect has no flow control, so nothing but the whole connection can be held.
//!
//! An edge that is not read harms itself alone, so it waits for [`PATIENCE`]. A service's connection carries
//! the answers to everybody: it stands still only as long as the receiver takes bytes at [`PACE`], and for
//! [`GRACE`] in all beyond that. So a receiver that reads as fast as it can gets everything, however much it
//! is, and one that does not loses its stream instead of holding up the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use limes_wire::frame::Role;
use tokio::sync::Notify;

/// Bytes of one stream that may wait for its receiver.
pub(crate) const STREAM_MAX: usize = 16 << 20;
/// Bytes of all streams of a connection that may wait for their receivers.
pub(crate) const CONNECTION_MAX: usize = 64 << 20;
/// A queue that is so much shorter has room again: soon, for other streams wait as well.
const ROOM: usize = 256 << 10;
/// How long an edge's connection is not read, before the stream for whose sake is closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes a second that the receivers of a service's streams have to take.
const PACE: u64 = 4 << 20;
/// For how long a receiver may be behind that in all, while the service's connection stands still.
const GRACE: Duration = Duration::from_secs(1);

/// Bytes that are beyond what leaves room.
pub(crate) fn excess(waiting: usize, most: usize) -> usize {
    waiting.saturating_sub(most - ROOM)
}

/// Whether a queue has just got room, being this long before something this long left it.
fn gets_room(before: usize, taken: usize, most: usize) -> bool {
    excess(before, most) > 0 && excess(before - taken, most) == 0
}

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// One stream.
    Stream,
    /// All of a connection together.
    All,
}

/// Bytes of one stream, and of all of its connection, that wait for their receivers.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    stream: AtomicUsize,
    all: Arc<AtomicUsize>,
    cut: Notify,
}

impl Waiting {
    /// Of a stream of a connection that counts here.
    pub(crate) fn new(all: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Waiting { all, ..Waiting::default() })
    }

    /// Bytes of this stream.
    pub(crate) fn bytes(&self) -> usize {
        self.stream.load(Ordering::Acquire)
    }

    /// What is too much, if anything is: the stream itself, if it is alone.
    pub(crate) fn crowd(&self) -> Option<Crowd> {
        let all = || (self.all.load(Ordering::Acquire) > CONNECTION_MAX).then_some(Crowd::All);
        if self.bytes() > STREAM_MAX { Some(Crowd::Stream) } else { all() }
    }

    /// Counts bytes for as long as what is returned lives.
    pub(crate) fn load(self: &Arc<Self>, bytes: usize) -> Load {
        self.stream.fetch_add(bytes, Ordering::AcqRel);
        self.all.fetch_add(bytes, Ordering::AcqRel);
        Load { waiting: self.clone(), bytes }
    }

    /// Ends the stream's task, and with it what waits.
    pub(crate) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Ready when the stream shall be cut.
    pub(crate) async fn is_cut(&self) {
        self.cut.notified().await;
    }
}

/// Something that waits.
#[derive(Debug)]
pub(crate) struct Load {
    waiting: Arc<Waiting>,
    bytes: usize,
}

impl Load {
    /// It waits no more. Whether the stream, or the connection, has got room by that.
    pub(crate) fn take(mut self) -> bool {
        self.release()
    }

    fn release(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.bytes);
        let stream = self.waiting.stream.fetch_sub(bytes, Ordering::AcqRel);
        let all = self.waiting.all.fetch_sub(bytes, Ordering::AcqRel);
        gets_room(stream, bytes, STREAM_MAX) | gets_room(all, bytes, CONNECTION_MAX)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.release();
    }
}

/// For how long a connection has stood still for one receiver, or for all together, beyond what the pace
/// allows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late(Duration);

impl Late {
    /// How long the connection may stand still now, for so many bytes to be taken.
    pub(crate) fn patience(self, role: Role, bytes: usize) -> Duration {
        match role {
            Role::Service => at_pace(bytes) + GRACE.saturating_sub(self.0),
            _ => PATIENCE,
        }
    }

    /// It has stood still for so long, and so many bytes have been taken.
    pub(crate) fn stood(&mut self, time: Duration, bytes: usize) {
        self.0 = (self.0 + time).saturating_sub(at_pace(bytes));
    }
}

/// The time that so many bytes may take.
fn at_pace(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64 * 1_000_000 / PACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a service's connection stands still in all, in pauses of `ROOM`, for a receiver that takes
    /// so many bytes a second; `None`: for ever, and the stream goes on.
    fn stands_still(rate: u64) -> Option<Duration> {
        let (mut late, mut all) = (Late::default(), Duration::ZERO);
        for _ in 0..10_000 {
            let takes = Duration::from_micros(ROOM as u64 * 1_000_000 / rate);
            let patience = late.patience(Role::Service, ROOM);
            if takes > patience {
                return Some(all + patience);
            }
            late.stood(takes, ROOM);
            all += takes;
        }
        None
    }

    #[test]
    fn a_service_waits_for_who_keeps_up_and_not_for_who_is_slow() {
        for rate in [PACE, 2 * PACE, 100 * PACE] {
            assert_eq!(stands_still(rate), None, "{rate} B/s");
        }
        for rate in [1, 100 << 10, 1 << 20, PACE / 2] {
            let stood = stands_still(rate).expect("it would hold up the others for ever");
            assert!(stood <= 3 * GRACE, "{stood:?} at {rate} B/s");
        }
    }

    #[test]
    fn one_large_packet_has_the_time_that_its_bytes_take() {
        let patience = Late::default().patience(Role::Service, 10 << 20);
        assert_eq!(patience, Duration::from_millis(2_500) + GRACE);
        assert_eq!(Late::default().patience(Role::Edge, 10 << 20), PATIENCE);
    }

    #[test]
    fn each_word_counts_until_it_is_taken_or_thrown_away() {
        let all = Arc::<AtomicUsize>::default();
        let (one, other) = (Waiting::new(all.clone()), Waiting::new(all.clone()));
        let (first, second) = (one.load(STREAM_MAX), one.load(ROOM + 1));
        let third = other.load(CONNECTION_MAX - STREAM_MAX);
        let total = CONNECTION_MAX + ROOM + 1;
        assert_eq!((one.bytes(), all.load(Ordering::Relaxed)), (STREAM_MAX + ROOM + 1, total));
        drop(second);
        assert_eq!((one.bytes(), all.load(Ordering::Relaxed)), (STREAM_MAX, CONNECTION_MAX));
        assert!(first.take(), "the stream and the connection have room");
        assert!(third.take(), "its stream has room");
        assert!(!other.load(1).take(), "there was room");
        assert_eq!((one.bytes(), other.bytes(), all.load(Ordering::Relaxed)), (0, 0, 0));
    }

    #[test]
    fn neither_one_stream_nor_all_of_a_connection_may_wait_for_ever() {
        let all = Arc::<AtomicUsize>::default();
        let streams: Vec<_> = (0..5).map(|_| Waiting::new(all.clone())).collect();
        let mut loads: Vec<_> = streams[..4].iter().map(|stream| stream.load(STREAM_MAX)).collect();
        assert!(streams.iter().all(|stream| stream.crowd().is_none()), "each may have that much");
        loads.push(streams[4].load(1));
        assert_eq!(streams[4].crowd(), Some(Crowd::All), "but not one more of them");
        loads.push(streams[0].load(1));
        assert_eq!(streams[0].crowd(), Some(Crowd::Stream));
        loads.clear();
        assert!(streams.iter().all(|stream| stream.crowd().is_none()));
    }

    #[test]
    fn room_is_told_once() {
        assert!(gets_room(STREAM_MAX, ROOM, STREAM_MAX));
        assert!(!gets_room(STREAM_MAX, ROOM - 1, STREAM_MAX));
        assert!(!gets_room(STREAM_MAX - ROOM, 1, STREAM_MAX));
    }
}
