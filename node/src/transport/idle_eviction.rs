//! Idle eviction: a port with a fixed number of connections admits every new one, and evicts the connection that is worth
//! the least. No IO.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The connections of one port.
#[derive(Debug)]
pub(crate) struct IdleEviction {
    most: usize,
    /// Counts reads of all connections; stands in for a clock.
    reads: AtomicU64,
    all: Mutex<HashMap<u64, Arc<Activity>>>,
}

/// What one connection has done.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// The peer has sent a valid request.
    has_asked: AtomicBool,
    /// The last read, by the count of all.
    last_read: AtomicU64,
    is_evicted: AtomicBool,
    evicted: Notify,
}

impl IdleEviction {
    /// For a port with at most so many connections.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(IdleEviction { most, reads: AtomicU64::new(0), all: Mutex::default() })
    }

    fn tick(&self) -> u64 {
        self.reads.fetch_add(1, Ordering::Relaxed)
    }

    /// Admits a connection. If there are too many, evicts another: one without a request before one that has made some, an
    /// idle one before one that is being answered, and among those the one that has been silent for the longest.
    pub(crate) fn admit(self: &Arc<Self>) -> Admission {
        let mut all = self.all.lock();
        let staying = || all.values().filter(|activity| !activity.is_evicted());
        if staying().count() >= self.most
            && let Some(least) = staying().min_by_key(|activity| activity.worth())
        {
            least.is_evicted.store(true, Ordering::Release);
            least.evicted.notify_one();
        }
        let number = self.tick();
        let activity = Arc::new(Activity::default());
        activity.last_read.store(number, Ordering::Relaxed);
        all.insert(number, activity.clone());
        Admission { port: self.clone(), number, activity }
    }
}

impl Activity {
    /// Orders connections: the least is evicted first.
    fn worth(&self) -> (bool, bool, u64) {
        let is_busy = self.busy.load(Ordering::Relaxed) > 0;
        (is_busy, self.has_asked.load(Ordering::Relaxed), self.last_read.load(Ordering::Relaxed))
    }

    /// Whether the peer has sent a valid request.
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// The peer has sent a valid request.
    pub(crate) fn asked(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// The peer has sent a valid request, which is being answered until the guard is dropped.
    pub(crate) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.asked();
        self.busy.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(self.clone())
    }

    /// Whether the connection is evicted.
    pub(crate) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Acquire)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection among those of its port, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    port: Arc<IdleEviction>,
    number: u64,
    activity: Arc<Activity>,
}

impl Admission {
    /// What the connection has done.
    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Notes that bytes were read.
    pub(crate) fn note_read(&self) {
        self.activity.last_read.store(self.port.tick(), Ordering::Relaxed);
    }

    /// How many connections the port may have.
    pub(crate) fn most(&self) -> usize {
        self.port.most
    }

    /// Waits until the connection is evicted. The future does not borrow the admission.
    ///
    /// # Cancel safety
    /// A future that is dropped after it was notified loses the notification: check [`Activity::is_evicted`] first.
    pub(crate) fn evicted(&self) -> impl Future<Output = ()> + Send + 'static {
        let activity = self.activity.clone();
        async move { activity.evicted.notified().await }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.port.all.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evicted(admissions: &[Admission]) -> Vec<usize> {
        (0..admissions.len()).filter(|at| admissions[*at].activity.is_evicted()).collect()
    }

    fn admit(port: &Arc<IdleEviction>, count: usize) -> Vec<Admission> {
        (0..count).map(|_| port.admit()).collect()
    }

    #[test]
    fn the_longest_silent_connection_without_a_request_is_evicted_first() {
        let port = IdleEviction::new(4);
        let mut all = admit(&port, 4);
        assert_eq!(evicted(&all), [0; 0]);
        all[0].activity.asked();
        let _request = all[1].activity.begin_request();
        all[2].note_read();
        all.push(port.admit());
        assert_eq!(evicted(&all), [3], "2 has sent bytes more recently");
        all.extend(admit(&port, 2));
        assert_eq!(evicted(&all), [2, 3, 4], "0 and 1 have made requests");
    }

    #[test]
    fn an_idle_connection_is_evicted_before_one_that_is_being_answered() {
        let port = IdleEviction::new(2);
        let all = admit(&port, 2);
        let _request = all[0].activity.begin_request();
        all[1].activity.asked();
        let last = port.admit();
        assert_eq!(evicted(&all), [1]);
        last.activity.asked();
        let _other = port.admit();
        assert_eq!(evicted(&all), [1], "0 is still being answered");
        assert!(last.activity.is_evicted());
    }

    #[test]
    fn a_connection_that_has_ended_is_forgotten() {
        let port = IdleEviction::new(4);
        let all = admit(&port, 9);
        drop(all);
        assert!(port.all.lock().is_empty());
    }

    #[tokio::test]
    async fn an_eviction_is_reported_even_to_a_late_listener() {
        let port = IdleEviction::new(1);
        let first = port.admit();
        let second = port.admit();
        first.evicted().await;
        assert!(first.activity.is_evicted() && !second.activity.is_evicted());
    }
}
