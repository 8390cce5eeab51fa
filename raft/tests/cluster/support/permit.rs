//! Limits the clusters that run at the same time.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use parking_lot::{Condvar, Mutex};

/// Tests that may have clusters at the same time. They mostly wait for elections, but too many of them on a
/// small machine delay each other's elections.
const SLOTS: usize = 6;

static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A permit to have clusters; returned when it is dropped.
pub struct Permit;

impl Permit {
    fn take() -> Permit {
        let mut taken = TAKEN.0.lock();
        TAKEN.1.wait_while(&mut taken, |taken| *taken >= SLOTS);
        *taken += 1;
        Permit
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *TAKEN.0.lock() -= 1;
        TAKEN.1.notify_one();
    }
}

/// The permit of the test on this thread: its second cluster shares the permit of the first.
pub fn permit() -> Rc<Permit> {
    thread_local!(static MINE: RefCell<Weak<Permit>> = const { RefCell::new(Weak::new()) });
    MINE.with_borrow_mut(|mine| {
        mine.upgrade().unwrap_or_else(|| {
            let permit = Rc::new(Permit::take());
            *mine = Rc::downgrade(&permit);
            permit
        })
    })
}
