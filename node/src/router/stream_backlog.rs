//! The bytes of a geminio connection's streams that wait for their receivers, and for how long the node stops reading
//! the connection because of them: geminio has no flow control for a stream, so only the whole connection can be
//! paused.
//!
//! Pausing an edge's connection delays that edge alone, so it may last [`PATIENCE`]. A service's connection carries
//! the answers to all of its callers: it is paused only while the receiver takes bytes at [`PACE`], and for
//! [`GRACE`] in total beyond that. So a receiver that reads as fast as it can gets every byte, and a slow one loses
//! its stream instead of delaying the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use limes_wire::frame::Role;
use tokio::sync::Notify;

/// Bytes of one stream that may wait for its receiver.
pub(crate) const STREAM_MAX: usize = 16 << 20;
/// Bytes of all streams of a connection that may wait for their receivers.
pub(crate) const CONNECTION_MAX: usize = 64 << 20;
/// A queue has space again once it is this much below its limit: little, because other streams wait as well.
const HYSTERESIS: usize = 256 << 10;
/// How long an edge's connection is paused before the stream that causes it is closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes per second that the receiver of a service's stream has to take.
const PACE: u64 = 4 << 20;
/// How long a receiver may be behind that pace in total while the service's connection is paused.
const GRACE: Duration = Duration::from_secs(1);

/// The bytes beyond the limit at which a queue has space again.
pub(crate) fn excess(waiting: usize, most: usize) -> usize {
    waiting.saturating_sub(most - HYSTERESIS)
}

/// Whether a queue of `before` bytes has got space by the removal of `taken` bytes.
fn gets_space(before: usize, taken: usize, most: usize) -> bool {
    excess(before, most) > 0 && excess(before - taken, most) == 0
}

/// Which limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// [`STREAM_MAX`], of one stream.
    Stream,
    /// [`CONNECTION_MAX`], of all streams of the connection.
    All,
}

/// Bytes of one stream, and of all of its connection, that wait for their receivers.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    stream: AtomicUsize,
    all: Arc<AtomicUsize>,
    abort: Notify,
}

impl Waiting {
    /// For a stream of a connection whose total is `all`.
    pub(crate) fn new(all: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Waiting { all, ..Waiting::default() })
    }

    /// Bytes of this stream.
    pub(crate) fn bytes(&self) -> usize {
        self.stream.load(Ordering::Acquire)
    }

    /// The limit that is exceeded, if one is; the stream's own limit first.
    pub(crate) fn crowd(&self) -> Option<Crowd> {
        let all = || (self.all.load(Ordering::Acquire) > CONNECTION_MAX).then_some(Crowd::All);
        if self.bytes() > STREAM_MAX { Some(Crowd::Stream) } else { all() }
    }

    /// Counts bytes until the returned load is taken or dropped.
    pub(crate) fn load(self: &Arc<Self>, bytes: usize) -> Load {
        self.stream.fetch_add(bytes, Ordering::AcqRel);
        self.all.fetch_add(bytes, Ordering::AcqRel);
        Load { waiting: self.clone(), bytes }
    }

    /// Ends the stream's task, and drops what waits.
    pub(crate) fn abort(&self) {
        self.abort.notify_one();
    }

    /// Waits until [`Waiting::abort`] is called.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(crate) async fn aborted(&self) {
        self.abort.notified().await;
    }
}

/// Bytes that wait for the receiver.
#[derive(Debug)]
pub(crate) struct Load {
    waiting: Arc<Waiting>,
    bytes: usize,
}

impl Load {
    /// Counts the bytes no longer; returns whether the stream or the connection has got space by that.
    pub(crate) fn take(mut self) -> bool {
        self.release()
    }

    fn release(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.bytes);
        let stream = self.waiting.stream.fetch_sub(bytes, Ordering::AcqRel);
        let all = self.waiting.all.fetch_sub(bytes, Ordering::AcqRel);
        gets_space(stream, bytes, STREAM_MAX) | gets_space(all, bytes, CONNECTION_MAX)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.release();
    }
}

/// How long a connection has been paused for one receiver, or for all together, beyond what the pace allows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Late(Duration);

impl Late {
    /// How long the connection may be paused now until `bytes` are taken.
    pub(crate) fn patience(self, role: Role, bytes: usize) -> Duration {
        match role {
            Role::Service => at_pace(bytes) + GRACE.saturating_sub(self.0),
            _ => PATIENCE,
        }
    }

    /// Records a pause during which `bytes` were taken.
    pub(crate) fn paused(&mut self, time: Duration, bytes: usize) {
        self.0 = (self.0 + time).saturating_sub(at_pace(bytes));
    }
}

/// The time that `bytes` take at the pace.
fn at_pace(bytes: usize) -> Duration {
    Duration::from_micros(bytes as u64 * 1_000_000 / PACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a service's connection is paused in total, in pauses for `HYSTERESIS` bytes, for a receiver that
    /// takes `rate` bytes per second; `None`: the stream continues.
    fn total_pause(rate: u64) -> Option<Duration> {
        let (mut late, mut all) = (Late::default(), Duration::ZERO);
        for _ in 0..10_000 {
            let takes = Duration::from_micros(HYSTERESIS as u64 * 1_000_000 / rate);
            let patience = late.patience(Role::Service, HYSTERESIS);
            if takes > patience {
                return Some(all + patience);
            }
            late.paused(takes, HYSTERESIS);
            all += takes;
        }
        None
    }

    #[test]
    fn service_waits_for_a_receiver_that_keeps_the_pace_and_not_for_a_slow_one() {
        for rate in [PACE, 2 * PACE, 100 * PACE] {
            assert_eq!(total_pause(rate), None, "{rate} B/s");
        }
        for rate in [1, 100 << 10, 1 << 20, PACE / 2] {
            let paused = total_pause(rate).expect("the pause ends");
            assert!(paused <= 3 * GRACE, "{paused:?} at {rate} B/s");
        }
    }

    #[test]
    fn patience_grows_with_the_size_of_a_packet() {
        let patience = Late::default().patience(Role::Service, 10 << 20);
        assert_eq!(patience, Duration::from_millis(2_500) + GRACE);
        assert_eq!(Late::default().patience(Role::Edge, 10 << 20), PATIENCE);
    }

    #[test]
    fn bytes_count_until_they_are_taken_or_dropped() {
        let all = Arc::<AtomicUsize>::default();
        let (one, other) = (Waiting::new(all.clone()), Waiting::new(all.clone()));
        let (first, second) = (one.load(STREAM_MAX), one.load(HYSTERESIS + 1));
        let third = other.load(CONNECTION_MAX - STREAM_MAX);
        let total = CONNECTION_MAX + HYSTERESIS + 1;
        assert_eq!((one.bytes(), all.load(Ordering::Relaxed)), (STREAM_MAX + HYSTERESIS + 1, total));
        drop(second);
        assert_eq!((one.bytes(), all.load(Ordering::Relaxed)), (STREAM_MAX, CONNECTION_MAX));
        assert!(first.take(), "the stream and the connection have space again");
        assert!(third.take(), "its stream has space again");
        assert!(!other.load(1).take(), "it had space before");
        assert_eq!((one.bytes(), other.bytes(), all.load(Ordering::Relaxed)), (0, 0, 0));
    }

    #[test]
    fn stream_and_connection_have_limits() {
        let all = Arc::<AtomicUsize>::default();
        let streams: Vec<_> = (0..5).map(|_| Waiting::new(all.clone())).collect();
        let mut loads: Vec<_> = streams[..4].iter().map(|stream| stream.load(STREAM_MAX)).collect();
        assert!(streams.iter().all(|stream| stream.crowd().is_none()), "each stream is at its limit");
        loads.push(streams[4].load(1));
        assert_eq!(streams[4].crowd(), Some(Crowd::All), "the connection is over its limit");
        loads.push(streams[0].load(1));
        assert_eq!(streams[0].crowd(), Some(Crowd::Stream));
        loads.clear();
        assert!(streams.iter().all(|stream| stream.crowd().is_none()));
    }

    #[test]
    fn space_is_reported_once() {
        assert!(gets_space(STREAM_MAX, HYSTERESIS, STREAM_MAX));
        assert!(!gets_space(STREAM_MAX, HYSTERESIS - 1, STREAM_MAX));
        assert!(!gets_space(STREAM_MAX - HYSTERESIS, 1, STREAM_MAX));
    }
}
