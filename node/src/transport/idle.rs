//! Connections of a port where many may come and each may stay: a newcomer always finds room, at the
//! cost of the one that has done the least for the longest. No IO.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The connections of one port.
#[derive(Debug)]
pub(crate) struct Guests {
    most: usize,
    /// Counts what is heard, instead of a clock.
    heard: AtomicU64,
    all: Mutex<HashMap<u64, Arc<Guest>>>,
}

/// What is known of one connection.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// It has asked for something that could be understood.
    spoken: AtomicBool,
    /// When it was last heard, by the count of all.
    heard: AtomicU64,
    leaving: AtomicBool,
    leave: Notify,
}

impl Guests {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Guests { most, heard: AtomicU64::new(0), all: Mutex::default() })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<Guest>>> {
        self.all.lock()
    }

    fn tick(&self) -> u64 {
        self.heard.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets a connection in. If there are too many, another is asked to leave: one that has not spoken
    /// before one that has, an idle one before one that is being answered, and of those the one that
    /// has been silent for the longest.
    pub(crate) fn enter(self: &Arc<Self>) -> Stay {
        let mut all = self.all();
        let staying = || all.values().filter(|guest| !guest.leaving.load(Ordering::Relaxed));
        if staying().count() >= self.most
            && let Some(least) = staying().min_by_key(|guest| guest.worth())
        {
            least.leaving.store(true, Ordering::Release);
            least.leave.notify_one();
        }
        let number = self.tick();
        let guest = Arc::new(Guest::default());
        guest.heard.store(number, Ordering::Relaxed);
        all.insert(number, guest.clone());
        Stay { guests: self.clone(), number, guest }
    }
}

impl Guest {
    /// What it is worth to keep it.
    fn worth(&self) -> (bool, bool, u64) {
        let busy = self.busy.load(Ordering::Relaxed) > 0;
        (busy, self.spoken.load(Ordering::Relaxed), self.heard.load(Ordering::Relaxed))
    }

    /// Whether it has asked for something.
    pub(crate) fn has_spoken(&self) -> bool {
        self.spoken.load(Ordering::Relaxed)
    }

    /// It has asked for something.
    pub(crate) fn speaks(&self) {
        self.spoken.store(true, Ordering::Relaxed);
    }

    /// It has asked for something, and is being answered until the guard is dropped.
    pub(crate) fn asks(self: &Arc<Self>) -> Asking {
        self.speaks();
        self.busy.fetch_add(1, Ordering::Relaxed);
        Asking(self.clone())
    }

    /// Whether it must make room.
    pub(crate) fn must_leave(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Asking(Arc<Guest>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Stay {
    guests: Arc<Guests>,
    number: u64,
    guest: Arc<Guest>,
}

impl Stay {
    /// The connection.
    pub(crate) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// Bytes of it have come.
    pub(crate) fn heard(&self) {
        self.guest.heard.store(self.guests.tick(), Ordering::Relaxed);
    }

    /// How many there is room for.
    pub(crate) fn most(&self) -> usize {
        self.guests.most
    }

    /// Waits until the connection must make room for others; the future outlives the stay.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the request: look at [`Guest::must_leave`] first.
    pub(crate) fn leave(&self) -> impl Future<Output = ()> + Send + 'static {
        let guest = self.guest.clone();
        async move { guest.leave.notified().await }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.guests.all().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(stays: &[Stay]) -> Vec<usize> {
        (0..stays.len()).filter(|at| stays[*at].guest.must_leave()).collect()
    }

    #[test]
    fn who_has_done_the_least_for_the_longest_makes_room() {
        let guests = Guests::new(4);
        let mut stays: Vec<Stay> = (0..4).map(|_| guests.enter()).collect();
        assert_eq!(left(&stays), [0; 0]);
        stays[0].guest.speaks();
        let asking = stays[1].guest.asks();
        stays[2].heard();
        stays.push(guests.enter());
        assert_eq!(left(&stays), [3], "silent for longer than 2, which has not spoken either");
        stays.push(guests.enter());
        stays.push(guests.enter());
        assert_eq!(left(&stays), [2, 3, 4], "one that has spoken is worth more");
        let more: Vec<Stay> = (0..3).map(|_| guests.enter()).collect();
        assert!(!stays[0].guest.must_leave() && !stays[1].guest.must_leave(), "{more:?}");
        for stay in &more {
            stay.guest.speaks();
        }
        let last = guests.enter();
        last.guest.speaks();
        let _other = guests.enter();
        assert!(stays[0].guest.must_leave(), "the first of those that are idle");
        assert!(!stays[1].guest.must_leave(), "one that is being answered stays");
        drop(asking);
        drop(stays);
        drop(more);
        assert_eq!(guests.all().len(), 2, "who has left is forgotten");
    }

    #[tokio::test]
    async fn who_must_leave_is_told_even_if_it_listens_late() {
        let guests = Guests::new(1);
        let first = guests.enter();
        let second = guests.enter();
        first.leave().await;
        assert!(first.guest.must_leave() && !second.guest.must_leave());
    }
}
